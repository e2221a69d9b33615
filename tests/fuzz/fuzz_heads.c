/* Fuzz target: reads the input as a table of heads, of four layers with three heads each, and chooses among
 * them. */
#include <stdlib.h>
#include <string.h>

#include "runtime/policy/heads.h"
#include "tests/fuzz/fuzz.h"

enum { LAYERS = 4, HEADS = 3, N = LAYERS * HEADS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size > 0 ? size : 1); /* exactly the input's bytes */
    if (text == NULL) return 0;
    memcpy(text, data, size);
    double values[N];
    bool full_heads[N];
    rs_error error = {RS_OK, ""};
    if (rs_heads_parse(text, size, LAYERS, HEADS, values, &error) == RS_OK) {
        for (size_t i = 0; i < N; i++)
            if (!(values[i] >= 0.0 && values[i] <= 1.0)) abort();
        size_t kept = 0;
        if (rs_heads_choose(values, N, 0.75F, full_heads) != RS_OK) abort();
        for (size_t i = 0; i < N; i++) kept += full_heads[i];
        if (kept != N / 4) abort();
    } else if (error.message[0] == '\0') {
        abort(); /* a refusal without a sentence */
    }
    free(text);
    return 0;
}
