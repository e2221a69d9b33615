/*
 * A trained adapter of one model: low-rank products beside its linear layers (LoRA, arXiv 2106.09685, section
 * 4.1), and how an erase pass is to use them. Immutable after loading.
 */
#ifndef RASURE_RUNTIME_ADAPTER_H
#define RASURE_RUNTIME_ADAPTER_H

#include "runtime/linear.h"
#include "runtime/model.h"

/* Ranks are padded to what activations carry a scale for. */
enum { RS_LORA_MAX_RANK = 64 };

/* Modules that share an input follow each other. */
typedef enum rs_lora_module {
    RS_LORA_Q,
    RS_LORA_K,
    RS_LORA_V,
    RS_LORA_O,
    RS_LORA_GATE,
    RS_LORA_UP,
    RS_LORA_DOWN,
    RS_LORA_MODULES,
} rs_lora_module;

/* y += B (A x), int8 in blocks; alpha / rank is in B. Without data: the module has none. */
typedef struct rs_lora {
    rs_matrix a; /* [rank, padded][n_in] */
    rs_matrix b; /* [n_out][rank, padded] */
} rs_lora;

struct rs_adapter {
    const rs_model *model;
    rs_adapter_kind kind;
    uint32_t rank, window, sinks, bridge_tokens;
    float alpha;
    uint64_t n_params;
    rs_lora *loras; /* [n_layers][RS_LORA_MODULES] */
    unsigned char *weights;
    size_t weight_bytes;
    char name[128];
    char *training;
};

/* The modules of a layer. */
static inline const rs_lora *rs_adapter_layer(const rs_adapter *adapter, uint32_t layer) {
    return adapter->loras + (size_t)layer * RS_LORA_MODULES;
}

#endif
