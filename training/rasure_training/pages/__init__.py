"""Pages of the documentation that are made of figures alone: nothing that measures is needed, nor what was measured."""
