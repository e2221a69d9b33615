#include "tests/support/state_builder.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/hash.h"

static bool append(void *user, const void *data, size_t bytes) {
    rs_test_state *state = user;
    unsigned char *grown = realloc(state->data, state->bytes + bytes);
    if (grown == NULL) return false;
    memcpy(grown + state->bytes, data, bytes);
    state->data = grown;
    state->bytes += bytes;
    return true;
}

rs_test_state rs_test_save(rs_context *context) {
    rs_test_state state = {0};
    if (rs_context_save(context, append, &state) == RS_OK) return state;
    free(state.data);
    return (rs_test_state){0};
}

rs_test_state rs_test_state_copy(const rs_test_state *state) {
    rs_test_state copy = {malloc(state->bytes), state->bytes};
    if (copy.data != NULL) memcpy(copy.data, state->data, state->bytes);
    return copy;
}

void rs_test_state_seal(const rs_test_state *state) {
    const size_t body = state->bytes - sizeof(uint64_t);
    const uint64_t hash = rs_fnv1a(RS_FNV1A_START, state->data, body);
    memcpy(state->data + body, &hash, sizeof hash);
}
