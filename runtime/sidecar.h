/* What all files beside a model have in common: whose they are, and how they are read. */
#ifndef RASURE_RUNTIME_SIDECAR_H
#define RASURE_RUNTIME_SIDECAR_H

#include "ports/port.h"
#include "runtime/gguf.h"
#include "runtime/model.h"

/* A file in memory, to be unmapped by rs_port_unmap. RS_IO with its path and the reason. */
rs_status rs_sidecar_map(const char *path, rs_port_map *map, rs_error *error);

/* That the file is an adapter of `type` ("lora", "heads", "gates") for this very model. RS_MISMATCH naming
 * the key where it is another's. */
rs_status rs_sidecar_check(const rs_gguf *gguf, const rs_model *model, const char *type, rs_error *error);

/* An integer of at most `most`; *value stays where the key is missing. */
rs_status rs_sidecar_u32(const rs_gguf *gguf, const char *key, uint32_t most, uint32_t *value,
                         rs_error *error);

#endif
