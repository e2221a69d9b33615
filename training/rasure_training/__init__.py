"""Reference model, golden files and training for rasure."""
