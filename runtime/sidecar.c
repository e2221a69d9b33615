/* Checks of files beside a model. */
#include "runtime/sidecar.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/status.h"

rs_status rs_sidecar_map(const char *path, rs_port_map *map, rs_error *error) {
    const int code = rs_port_map_file(path, map);
    if (code == 0) return RS_OK;
    char reason[96];
    rs_port_strerror(code, reason, sizeof reason);
    return rs_fail(error, RS_IO, "%s: %s", path, reason);
}

static rs_status expect_string(const rs_gguf *gguf, const char *key, const char *want, rs_error *error) {
    rs_string value;
    char text[RS_SHOWN_BYTES];
    RS_TRY(rs_gguf_string(gguf, key, &value, error));
    if (rs_string_is(value, want)) return RS_OK;
    return rs_fail(error, RS_MISMATCH, "%s is %s, this must be %s", key, rs_shown(value, text), want);
}

rs_status rs_sidecar_check(const rs_gguf *gguf, const rs_model *model, const char *type, rs_error *error) {
    rs_model_info info;
    char fingerprint[17];
    RS_TRY(expect_string(gguf, "general.type", "adapter", error));
    RS_TRY(expect_string(gguf, "adapter.type", type, error));
    RS_TRY(rs_model_get_info(model, &info));
    RS_TRY(expect_string(gguf, "general.architecture", info.architecture, error));
    (void)snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, rs_model_fingerprint(model));
    return expect_string(gguf, "rasure.adapter.fingerprint", fingerprint, error);
}

rs_status rs_sidecar_u32(const rs_gguf *gguf, const char *key, uint32_t most, uint32_t *value,
                         rs_error *error) {
    RS_TRY(rs_gguf_u32_or(gguf, key, value, error));
    if (*value <= most) return RS_OK;
    return rs_fail(error, RS_BAD_FILE, "%s: %" PRIu32 " is above %" PRIu32, key, *value, most);
}
