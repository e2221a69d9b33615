/*
 * rasure: a small quantised LLM runtime whose KV cache can forget.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * ---------------------------------------------------------------------------------------------------
 * Manual
 * ---------------------------------------------------------------------------------------------------
 *
 * rasure runs a GGUF language model on CPUs and keeps its KV cache in memory that the application owns.
 * Any span of what the model has read can be taken back out of that cache, by one of several methods,
 * each with a named guarantee (see rs_erase_method).
 *
 *     rs_model *model;                                  one model, immutable, shared by any number of
 *     rs_model_load("model.gguf", NULL, &model, &err);  contexts and threads
 *
 *     rs_context_size(model, NULL, &bytes, &err);       the bytes are known before the first token
 *     void *memory = aligned_alloc(64, bytes);
 *     rs_context_init(memory, bytes, model, NULL, &ctx, &err);
 *
 *     rs_tokenize(model, text, strlen(text), 0, tokens, capacity, &count, &err);
 *     rs_decode(ctx, tokens, count);                    prefill: reads the tokens into the KV cache
 *     rs_generate(ctx, NULL, &report);                  decode: writes an answer
 *     rs_erase(ctx, &(rs_span){12, 40}, 1, NULL, NULL); takes positions 12 to 39 back
 *     rs_decode(ctx, question, n);                      logits are gone: reads what comes next
 *     rs_generate(ctx, NULL, &report);                  answers without them
 *
 *     rs_context_wipe(ctx);  free(memory);  rs_model_free(model);
 *
 * Status and messages. Every call that can fail returns an rs_status. Calls on a context leave a sentence
 * that names what was wrong in the context (rs_context_message), but for those that take a const context;
 * calls without a context write it to the rs_error that the caller passes (NULL: no message wanted). Nothing
 * in the library prints, exits or aborts.
 *
 * Parameters. Start from what rs_..._default_params gives: a struct of zeros is not always a valid one.
 *
 * Failure. A call that fails leaves the context's tokens and cache as they were, but where it says otherwise
 * (rs_decode under a policy, rs_generate, rs_refine keep the part that is done). The one failure after which
 * that cannot be had is named where it occurs: the context is then *poisoned* and every call but
 * rs_context_reset, rs_context_wipe and the plain queries returns RS_POISONED.
 *
 * Memory. rs_model_load allocates; rs_tokenize, rs_detokenize and rs_chat_tokens may use temporary memory.
 * A context lives wholly in the caller's block: no call on a context allocates. A context MUST NOT be
 * moved or copied. Its memory MUST stay mapped and untouched by others until the last call on it.
 *
 * Threads. A model may be used by any number of threads at once. A context MUST be used by one thread at a
 * time. The thread pool that a model carries is shared; concurrent calls take turns in it.
 *
 * Callbacks. A call in progress MUST NOT be called into again: from a callback, of the context that it is of
 * only the queries that take a const context, and rs_context_message, may be called.
 *
 * Positions and spans. Every token in the cache has a position, counted from 0. A span is half-open,
 * [begin, end), in positions. Spans are checked, and refused rather than clamped. Methods that keep
 * positions leave a hole; later tokens keep theirs.
 *
 * What erasing promises. Whatever the method, the erased tokens' ids and their own keys and values are
 * overwritten in the context's memory; where the erase can be taken back, by rs_forget_undo at the latest.
 * Copies and states that were saved before still hold them. Keys and values of *later* tokens were computed
 * while the span was visible and still carry what they absorbed from it: only RS_ERASE_EXACT recomputes all
 * of them. Text that the application received before an erase is the application's to forget.
 */
#ifndef RASURE_RASURE_H
#define RASURE_RASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(RS_API) /* say what a function of a shared library that holds this one is to be to others */
#elif defined(__GNUC__)
#define RS_API __attribute__((visibility("default")))
#else
#define RS_API
#endif

/* ------------------------------------------------------------------------------------------ status -- */

/* Stable values: new ones are added at the end. */
typedef enum rs_status {
    RS_OK = 0,
    RS_INVALID_ARGUMENT = 1, /* a NULL, or a value outside its documented range */
    RS_OUT_OF_RANGE = 2,     /* a token id, position or span that is not there */
    RS_UNSUPPORTED = 3,      /* a model, format or method that this build or context cannot do */
    RS_NO_MEMORY = 4,        /* the system gave none, or the caller's block is too small */
    RS_NO_SPACE = 5,         /* the KV cache, or the caller's output buffer, is full */
    RS_IO = 6,               /* the system refused to open, map, read or write a file */
    RS_BAD_FILE = 7,         /* a file that is damaged or not of its format */
    RS_MISMATCH = 8,         /* an adapter or state that belongs to another model */
    RS_STOPPED = 9,          /* a callback asked to stop (rs_generate: RS_OK and RS_STOP_CALLBACK) */
    RS_POISONED = 10,        /* an earlier failure; only reset and wipe are left */
} rs_status;

/* The name of a status ("RS_OUT_OF_RANGE"); "RS_?" for a value that is none. Never NULL. */
RS_API const char *rs_status_name(rs_status status);

/* One sentence for a person, without a line end. Written only by a call that failed. */
typedef struct rs_error {
    rs_status status;
    char message[256];
} rs_error;

/* "0.1.0" */
RS_API const char *rs_version(void);

/* ------------------------------------------------------------------------------------------- model -- */

typedef struct rs_model rs_model;
typedef struct rs_adapter rs_adapter;
typedef struct rs_gates rs_gates;
typedef struct rs_context rs_context;
struct pthreadpool; /* of pthreadpool.h */

/* Which code multiplies a batch of rows by a weight matrix. One row (decode) is always native. */
typedef enum rs_linear {
    RS_LINEAR_AUTO = 0,    /* the fastest back end within the accuracy bound (docs/architecture.md) */
    RS_LINEAR_NATIVE = 1,  /* own kernels: weights as in the file, int8 activations in blocks of 32 (but for
                              RS_ISA_AMX, where several rows go by an int8 scale per 256 inputs) */
    RS_LINEAR_XNNPACK = 2, /* XNNPACK qd8_f32_qc8w: packed once at load (1 byte a weight more), one int8 scale
                              per activation row and per output channel: several times the native KL */
} rs_linear;

/* Instruction set levels. A level is used only if the CPU has it. Lowest first: REF, AVX2, AVXVNNI,
 * AVX512VNNI, AMX on x86; REF, NEON, DOTPROD, I8MM on Arm. */
typedef enum rs_isa {
    RS_ISA_AUTO = 0, /* what the environment variable RASURE_ISA names, else the best that the CPU has of
                        those that are not given on request only (AMX, I8MM: docs/performance.md says why) */
    RS_ISA_REF = 1,  /* portable C */
    RS_ISA_AVX2 = 2,
    RS_ISA_AVX512VNNI = 3,
    RS_ISA_AMX = 4,
    RS_ISA_NEON = 5,
    RS_ISA_DOTPROD = 6,
    RS_ISA_I8MM = 7,
    RS_ISA_AVXVNNI = 8,
} rs_isa;

/* "auto", "ref", "avx2", ...; "?" for a value that is none. */
RS_API const char *rs_isa_name(rs_isa isa);
/* RS_INVALID_ARGUMENT for a name that is none. */
RS_API rs_status rs_isa_from_name(const char *name, rs_isa *isa);

typedef struct rs_model_params {
    uint32_t threads; /* 1 to 256: size of the pool that the model creates; always explicit */
    rs_linear linear;
    rs_isa isa;               /* level to use; one that the CPU lacks is RS_UNSUPPORTED */
    struct pthreadpool *pool; /* a pool to use instead; not owned, outlives the model; NULL: create one. For
                                 programs that build rasure with the pthreadpool they use themselves */
} rs_model_params;

/* One thread, RS_LINEAR_AUTO, RS_ISA_AUTO, own pool. */
RS_API rs_model_params rs_model_default_params(void);

/*
 * Maps the GGUF file (v2 or v3, little endian) at `path` and makes it ready: metadata, tokenizer, weights.
 * Weights stay in the mapping: the file MUST NOT change while the model is loaded. params NULL: the defaults.
 * On success *model is the caller's, to be given to rs_model_free; on failure it is NULL. RS_IO, RS_BAD_FILE,
 * RS_UNSUPPORTED (architecture, tensor type, a tensor that the architecture has no use for, rope scaling,
 * tokenizer: named), RS_NO_MEMORY, RS_INVALID_ARGUMENT.
 */
RS_API rs_status rs_model_load(const char *path, const rs_model_params *params, rs_model **model,
                               rs_error *error);

/* The same for a part of a file that is open for reading, as an application's package has it uncompressed
 * (Android: AAsset_openFileDescriptor64): `bytes` bytes (0: up to the end) from `offset` on, a multiple of 4.
 * The descriptor stays the caller's, who may close it. */
RS_API rs_status rs_model_load_fd(int descriptor, uint64_t offset, uint64_t bytes,
                                  const rs_model_params *params, rs_model **model, rs_error *error);

/* The same for a file that is already in memory; `data` is aligned to 4, not owned, and MUST outlive the
 * model. */
RS_API rs_status rs_model_load_memory(const void *data, size_t bytes, const rs_model_params *params,
                                      rs_model **model, rs_error *error);

/* MUST NOT be called while a context of this model is in use. NULL is fine. */
RS_API void rs_model_free(rs_model *model);

/* How turns are marked, by the markers that the file's template has; its logic is not run. */
typedef enum rs_chat_format {
    RS_CHAT_NONE = 0, /* no template in the file */
    RS_CHAT_CHATML = 1,
    RS_CHAT_LLAMA3 = 2,
    RS_CHAT_GEMMA = 3,
    RS_CHAT_UNKNOWN = 4, /* a template with none of their turn markers */
} rs_chat_format;

/* Strings live as long as the model. */
typedef struct rs_model_info {
    const char *name;         /* general.name, or "" */
    const char *architecture; /* "llama", "qwen2", "qwen3", "gemma3" */
    uint32_t n_layers;
    uint32_t n_embd;  /* model dimension */
    uint32_t n_ff;    /* feed-forward dimension */
    uint32_t n_heads; /* query heads */
    uint32_t n_kv_heads;
    uint32_t head_dim;
    uint32_t n_vocab;
    uint32_t n_ctx_train;    /* context length the model was trained for */
    uint32_t sliding_window; /* tokens that a sliding layer sees; 0: none */
    uint64_t n_params;
    uint64_t file_bytes;
    uint64_t packed_bytes; /* weights held beside the file (XNNPACK); 0 for native */
    rs_chat_format chat_format;
    const char *chat_format_name; /* "chatml", "llama3", "gemma", "none", "unknown" */
    const char *default_system;   /* system text that the file's template puts first by itself, or "" */
    int32_t bos, eos;             /* token ids, -1: none */
    rs_linear linear;             /* what RS_LINEAR_AUTO became */
    rs_isa isa;                   /* what RS_ISA_AUTO became */
    uint32_t threads;
} rs_model_info;

RS_API rs_status rs_model_get_info(const rs_model *model, rs_model_info *info);

/* A string of the file's metadata ("tokenizer.chat_template", "general.license"), without a zero at its end;
 * lives as long as the model. RS_BAD_FILE: there is none, or it is no string. */
RS_API rs_status rs_model_get_string(const rs_model *model, const char *key, const char **text, size_t *bytes,
                                     rs_error *error);

/* What adapters know their model by: a hash of name, type, dimensions and first 256 bytes of every tensor.
 * Enough to tell models and their quantisations apart; no protection against forgery. 0 for NULL. */
RS_API uint64_t rs_model_fingerprint(const rs_model *model);

/* ---------------------------------------------------------------------------------------- tokenizer -- */

enum {
    RS_TOKENIZE_SPECIAL = 1,   /* "<|im_end|>" in the text becomes that token; without it, plain text */
    RS_TOKENIZE_BOS = 2,       /* the model's BOS first, if its file asks for one */
    RS_TOKENIZE_CONTINUES = 4, /* the text goes on where other text ends: SPM vocabularies put no space in
                                  front */
};

/*
 * Text (any bytes; need not be valid UTF-8, may hold zeros) to token ids. *count is always the number that
 * the text needs; with tokens NULL and capacity 0 only that is computed. RS_NO_SPACE: capacity too small,
 * nothing written. Detokenizing gives the same bytes back, but for a BOS and for the space that some SPM
 * vocabularies put first and after each special token. RS_UNSUPPORTED: the text has a byte for which the
 * vocabulary has no token (SmolLM2 lacks 04, 06, 13, 14, 16, 1D and bytes of no assigned character: put
 * spaces in their place beforehand). Tokens that a file declares user-defined are matched in plain text too.
 */
RS_API rs_status rs_tokenize(const rs_model *model, const char *text, size_t bytes, uint32_t flags,
                             int32_t *tokens, size_t capacity, size_t *count, rs_error *error);

/*
 * Token ids to bytes; no terminating zero. Control tokens give nothing unless `special`. *bytes is always
 * the number needed; RS_NO_SPACE as above. RS_OUT_OF_RANGE for an id that is none.
 */
RS_API rs_status rs_detokenize(const rs_model *model, const int32_t *tokens, size_t count, bool special,
                               char *text, size_t capacity, size_t *bytes, rs_error *error);

/* Whether generation ends at this token (EOS, end of turn). */
RS_API bool rs_token_is_end(const rs_model *model, int32_t token);

typedef enum rs_role { RS_ROLE_SYSTEM = 0, RS_ROLE_USER = 1, RS_ROLE_ASSISTANT = 2 } rs_role;
typedef enum rs_chat_part {
    RS_CHAT_BEGIN = 0, /* once, before the first turn (BOS where the model wants one); role ignored */
    RS_CHAT_OPEN = 1,  /* before a turn's text; for the assistant: the generation prompt */
    RS_CHAT_CLOSE = 2, /* after a turn's text */
} rs_chat_part;

/*
 * The template's own tokens around a turn, so that the text between them is tokenized as plain text and
 * can never forge a marker:  BEGIN, then per turn OPEN, rs_tokenize(text, RS_TOKENIZE_CONTINUES), CLOSE.
 * The templates of Llama 3 and Gemma trim the white space around the text of a turn; that is the caller's.
 * RS_UNSUPPORTED, naming the known formats, when the file's template is not one of them, and for
 * RS_ROLE_SYSTEM with a format that has no such role (gemma: put the text first in the user's turn).
 */
RS_API rs_status rs_chat_tokens(const rs_model *model, rs_chat_part part, rs_role role, int32_t *tokens,
                                size_t capacity, size_t *count, rs_error *error);

/* ------------------------------------------------------------------------------------------ context -- */

/*
 * What the KV cache keeps. All but FULL evict when a layer (with GATES: some of the layers) has read a chunk:
 * of a head that does not keep everything, the entries between the first `sinks` tokens and the last `window`
 * go, for good. The cache has room for what stays, and for a chunk in those layers alone. A token sees what
 * is there when its layer reads it: sinks, the last `window` tokens before its chunk, and its chunk up to
 * itself (arXiv 2309.17453, section 3; by head arXiv 2506.17121, section 4). Positions are never renumbered.
 */
typedef enum rs_policy {
    RS_POLICY_FULL = 0,   /* everything, in every head */
    RS_POLICY_WINDOW = 1, /* sinks and window, in every head */
    RS_POLICY_HEADS = 2,  /* everything in some heads, sinks and window in the others */
    /* Controls, with sinks, window, and up to `budget` entries a stream of what is between: */
    RS_POLICY_RANDOM = 3,  /* any */
    RS_POLICY_KEYNORM = 4, /* those with the shortest keys (arXiv 2406.11430, section 4, which leaves the
                              first two layers whole: here they lose entries as all do) */
    /* Of every chunk a share, chosen once by what the chunk's last tokens attend to; what is decoded token by
     * token all stays: */
    RS_POLICY_SNAPKV = 5,    /* the same share in every layer (arXiv 2404.14469, section 4) */
    RS_POLICY_PYRAMIDKV = 6, /* less from layer to layer (arXiv 2406.02069, section 4) */
    /* What trained gates say is worth keeping, with sinks and window: */
    RS_POLICY_GATES = 7,      /* the best of all layers and heads together, `budget` a stream on average
                                 (arXiv 2605.09649) */
    RS_POLICY_HEAD_GATES = 8, /* the best `budget` of each stream (arXiv 2512.03324), by any gates */
} rs_policy;

/* "full", "window", ...; "?" for a value that is none. */
RS_API const char *rs_policy_name(rs_policy policy);

/* What the heads of a file were trained with; 0 where it does not say. */
typedef struct rs_heads_info {
    uint32_t sinks, window;
} rs_heads_info;

/*
 * Reads from a file which heads keep everything, into full_heads [n_layers][n_kv_heads]. The file is a GGUF
 * sidecar for this model (docs/kv-budgets.md), or a table as PruLong and DuoAttention write it: a line for
 * each layer, in it a number for each KV head, tabs between. The larger, the more a head needs what lies far
 * back. The floor(n * (1 - local_share)) largest of all n keep everything (local_share 0 to 1), of equal ones
 * the first; with RS_HEADS_AS_WRITTEN those of at least 0.5. info may be NULL. RS_BAD_FILE: neither, or not
 * of this model's shape, with the place. RS_MISMATCH: a sidecar of another model.
 */
#define RS_HEADS_AS_WRITTEN (-1.0F)
RS_API rs_status rs_heads_load(const rs_model *model, const char *path, float local_share, bool *full_heads,
                               rs_heads_info *info, rs_error *error);

/* The same for a file that is already in memory; `data` is aligned to 4 and not needed afterwards. */
RS_API rs_status rs_heads_load_memory(const rs_model *model, const void *data, size_t bytes,
                                      float local_share, bool *full_heads, rs_heads_info *info,
                                      rs_error *error);

/*
 * Reads retention gates: a GGUF sidecar (docs/kv-budgets.md) that was trained for this model. Immutable, may
 * be used by any number of contexts and threads, and MUST be freed after them and before the model. Kept as
 * they are in the file, beside the model's weights. On failure *gates is NULL. RS_MISMATCH: made for another
 * model, or of another shape (named); RS_BAD_FILE, RS_UNSUPPORTED, RS_IO, RS_NO_MEMORY, RS_INVALID_ARGUMENT.
 */
RS_API rs_status rs_gates_load(const rs_model *model, const char *path, rs_gates **gates, rs_error *error);

/* The same for a file that is already in memory; `data` is aligned to 4 and not needed afterwards. */
RS_API rs_status rs_gates_load_memory(const rs_model *model, const void *data, size_t bytes, rs_gates **gates,
                                      rs_error *error);

/* NULL is fine. */
RS_API void rs_gates_free(rs_gates *gates);

/* Strings live as long as the gates. */
typedef struct rs_gates_info {
    const char *name;        /* general.name, or "" */
    const char *form;        /* "tied", "rows", "untied", "constant" */
    bool by_head;            /* trained with a budget for each stream: RS_POLICY_GATES gives RS_MISMATCH */
    uint32_t width;          /* of their first layer; 0: they have no input */
    uint32_t budget, length; /* entries a stream and tokens in training; 0 where the file does not say */
    uint64_t n_params;
    size_t bytes;         /* memory their weights take */
    const char *training; /* how they were trained, as the file says, or "" */
} rs_gates_info;

RS_API rs_status rs_gates_get_info(const rs_gates *gates, rs_gates_info *info);

typedef struct rs_policy_params {
    rs_policy policy;
    uint32_t sinks;         /* 0 to 1,048,576; attention leans on the first tokens: 4 and more are usual */
    uint32_t window;        /* 1 to 1,048,576; not with FULL */
    uint32_t rewind;        /* so many more are kept, and rs_truncate can go back so far; 0 to 1,048,576 */
    uint32_t budget;        /* RANDOM, KEYNORM, gates: entries of a stream (GATES: on average), at least sinks
                               + window + rewind and floor; there may be 16 more, or 1/12 of it
                               where that is more */
    uint32_t floor;         /* GATES: entries that every stream keeps of what it has, 0 to 1,024 */
    const rs_gates *gates;  /* GATES, HEAD_GATES: of the context's model */
    float keep;             /* SNAPKV, PYRAMIDKV: share of a chunk that stays, above 0, to 1 */
    uint32_t observers;     /* the chunk's last tokens, which choose and stay; 1 to 1,024. Chunks that are not
                               longer stay whole */
    bool patched;           /* SNAPKV, PYRAMIDKV: chunks are chosen from by the last tokens of the whole call,
                               which are read behind each of them for it and taken out again; a chunk is
                               then n_batch - observers long. The call's last n_batch choose by themselves
                               (arXiv 2506.17121, section 4) */
    uint32_t decoded;       /* tokens that there is room for besides what is kept of chunks, to n_ctx */
    size_t budget_bytes;    /* if not 0: `window` (WINDOW, HEADS), `budget` or `keep` becomes the largest with
                               which rs_context_cache_size is no more */
    const bool *full_heads; /* [n_layers][n_kv_heads], true: keeps everything. Needed by HEADS, taken by
                               those below it but GATES (NULL: none). Copied by rs_context_init */
} rs_policy_params;

typedef struct rs_context_params {
    uint32_t n_ctx;   /* tokens that the context can hold, 16 to 1,048,576 */
    uint32_t n_batch; /* tokens of a prefill chunk, 1 to 4,096: larger is faster and takes more scratch */
    rs_policy_params policy; /* which of the tokens' entries the KV cache keeps */
    bool refine;             /* a second cache as large as the first, for rs_refine */
    size_t undo_bytes;       /* for KV pages as they were before the last erase, for rs_undo; 0: none */
} rs_context_params;

/* n_ctx 2,048, n_batch 128, a full cache. */
RS_API rs_context_params rs_context_default_params(void);

/* Bytes that rs_context_init needs for these parameters, to the byte; a multiple of 64. RS_NO_SPACE: a budget
 * in bytes that is too small for any window, budget or share; the sentence says what would do. */
RS_API rs_status rs_context_size(const rs_model *model, const rs_context_params *params, size_t *bytes,
                                 rs_error *error);

/* What a budget in bytes counts: of these the KV pages, their tables and what the policy needs, and the
 * weights of its gates. */
RS_API rs_status rs_context_cache_size(const rs_model *model, const rs_context_params *params, size_t *bytes,
                                       rs_error *error);

/*
 * Makes a context in `memory`, which MUST be aligned to 64 and hold at least rs_context_size bytes. The
 * whole block is overwritten. *context points into it; NULL on failure. params NULL: the defaults.
 */
RS_API rs_status rs_context_init(void *memory, size_t bytes, const rs_model *model,
                                 const rs_context_params *params, rs_context **context, rs_error *error);

/* Forgets everything and zeroes cache and scratch; the context is as new, and no longer poisoned. */
RS_API void rs_context_reset(rs_context *context);

/*
 * Makes `to` what `from` is: tokens, positions, cache, protected head and logits. What `to` held is
 * overwritten; its progress callback stays. So a prompt that was read once can be gone on with in several
 * ways, or a state be come back to. The two know nothing of each other afterwards: what is erased in one is
 * still in the other. RS_MISMATCH: contexts of two models, or of two policies. RS_NO_SPACE: `to` has no room
 * for it. RS_POISONED: `from` is. A poisoned `to` is sound afterwards. Sentences are in `to`, which a call
 * that fails leaves as it was.
 */
RS_API rs_status rs_context_copy(rs_context *to, const rs_context *from);

/* Takes the next `bytes` of what is saved; false: no more of it. */
typedef bool (*rs_write_fn)(void *user, const void *data, size_t bytes);

/*
 * Writes the context, piece by piece: tokens, positions, cache, protected head, logits, and from where on
 * erasing has left it cheap; about the bytes of the KV pages in use. What was erased is not in it, nor what
 * rs_undo would bring back: that of a STEER erase is as in the cache. It is as private as the conversation.
 * RS_STOPPED: `write` said false, and what it has is of no use. RS_POISONED: the context is.
 */
RS_API rs_status rs_context_save(rs_context *context, rs_write_fn write, void *user);

/*
 * Makes the context what was saved, to the byte: decoding, erasing and refining go on as they would have
 * there; what rs_refine had read already is read again, rs_undo and rs_context_footprint begin anew. The
 * other context may have had another n_ctx, n_batch, number of threads and instruction set. `data`, aligned
 * to 8, is not needed afterwards. All of it is checked before the first byte of the context changes.
 * RS_BAD_FILE: it is damaged, or no saved context. RS_UNSUPPORTED: of another version. RS_MISMATCH: of
 * another model or policy. RS_NO_SPACE: the context has no room for it. A poisoned context is sound
 * afterwards.
 */
RS_API rs_status rs_context_load(rs_context *context, const void *data, size_t bytes);

/* Zeroes the context's whole memory for good. Afterwards only the block itself may be freed or reused. */
RS_API void rs_context_wipe(rs_context *context);

/* The sentence of the last call that failed on this context; "" if none did. */
RS_API const char *rs_context_message(const rs_context *context);

/* What the context's bytes are for; the items add up to rs_context_size. */
typedef struct rs_memory_item {
    const char *name;
    size_t bytes;
} rs_memory_item;

/* Writes up to `capacity` items; *count is always the number there are. */
RS_API rs_status rs_context_memory(const rs_context *context, rs_memory_item *items, size_t capacity,
                                   size_t *count);

typedef struct rs_context_info {
    uint32_t n_ctx, n_batch;
    uint32_t n_tokens;       /* tokens in the cache */
    int32_t next_position;   /* position that the next token gets: n_tokens plus the holes */
    size_t arena_bytes;      /* all of the context */
    size_t kv_bytes;         /* bytes of KV pages that hold tokens now */
    size_t kv_capacity;      /* bytes of all KV pages */
    size_t cache_bytes;      /* what rs_context_cache_size said */
    rs_policy_params policy; /* as completed; full_heads lives as long as the context */
    bool can_undo;           /* rs_undo can be had */
    uint32_t n_cheap;        /* tokens at the end that rs_refine still has to read again */
    bool poisoned;
} rs_context_info;

RS_API rs_status rs_context_get_info(const rs_context *context, rs_context_info *info);

/*
 * How much of the cache was held for how long since the context was initialised or reset: the KV footprint of
 * "Cache Me If You Can" (arXiv 2506.17121, section 3). Every token that rs_decode or rs_generate reads is a
 * step; an entry (key and value of a token in one KV head of one layer) counts once for each step at which it
 * is there. held / full is the footprint: 1 for a cache that keeps everything and of which nothing is erased.
 * What erasing recomputes is no step; what a call read that was undone is.
 */
typedef struct rs_footprint {
    uint64_t full; /* entry-steps that a cache would hold that keeps what is not erased */
    uint64_t held; /* entry-steps held, the tokens of a chunk coming one by one, as the paper counts */
    uint64_t held_at_once; /* the same with a chunk's entries there from its first step on, as they are */
    uint64_t peak_entries; /* most entries at a time */
    size_t peak_bytes;     /* most bytes of KV pages in use at a time */
    double policy_ms;      /* time that the policy took: its gates, and to score, to choose and to evict */
} rs_footprint;
RS_API rs_status rs_context_footprint(const rs_context *context, rs_footprint *footprint);

/* Entries held now, of each layer's KV heads: up to `capacity` of n_layers * n_kv_heads, which *count is. */
RS_API rs_status rs_context_streams(const rs_context *context, uint32_t *entries, size_t capacity,
                                    size_t *count);

/* In place of a token whose entries a STEER erase has rewritten: they are there, the token is not. */
#define RS_TOKEN_GONE (-1)

/* Tokens in the cache with begin <= position < end, in order. Either array may be NULL. */
RS_API rs_status rs_context_tokens(rs_context *context, int32_t begin, int32_t end, int32_t *tokens,
                                   int32_t *positions, size_t capacity, size_t *count);

/* Called after each chunk of a call that takes several, with tokens done and in total. Return false to stop:
 * rs_decode is then undone and returns RS_STOPPED; rs_erase cannot be stopped and ignores it. */
typedef bool (*rs_progress_fn)(void *user, uint32_t done, uint32_t total);
RS_API void rs_context_set_progress(rs_context *context, rs_progress_fn progress, void *user);

/* ---------------------------------------------------------------------------------- prefill, decode -- */

/*
 * Appends `count` tokens to the cache (prefill in chunks of n_batch; decode for one) and computes the
 * logits of the last. With native linear layers the result does not depend on how tokens are split over calls
 * and chunks, nor on the number of threads, to the bit (with RS_ISA_AMX: on whether a chunk has one token or
 * more). RS_OUT_OF_RANGE: a token id outside the vocabulary. RS_NO_SPACE: the cache has no
 * room for all of them. A call that fails later (a callback stopped it, the weights hold no numbers) takes
 * its tokens out again and leaves no logits; with a policy that evicts, chunks that were read whole stay:
 * rs_context_get_info tells how far it came.
 */
RS_API rs_status rs_decode(rs_context *context, const int32_t *tokens, size_t count);

/* As rs_decode, and calls `each` with the logits [n_vocab] after every token; return false to stop. */
typedef bool (*rs_logits_fn)(void *user, int32_t position, const float *logits, size_t n_vocab);
RS_API rs_status rs_decode_each(rs_context *context, const int32_t *tokens, size_t count, rs_logits_fn each,
                                void *user);

/* The logits [n_vocab] of the last decoded token, valid until the next call on the context. NULL before
 * the first rs_decode, after one that failed, and after whatever changes what has been read (rs_erase,
 * rs_replace, rs_undo, rs_truncate, rs_context_reset, an rs_refine that has come to its end) or reads
 * something else (rs_find_echoes): then decode at least one token first. */
RS_API const float *rs_logits(const rs_context *context, size_t *n_vocab);

/* Protects what every later turn leans on (the template's head, the system text): rs_erase refuses spans that
 * reach below `position` (0, at the start and after a reset: nothing is protected) unless they are forced. */
RS_API rs_status rs_context_set_head(rs_context *context, int32_t position);

/* Removes all tokens at positions >= `position` (0 to next_position). Exact, and nothing is computed.
 * RS_UNSUPPORTED: the
 * policy has evicted entries that a cache that ends there would hold. */
RS_API rs_status rs_truncate(rs_context *context, int32_t position);

/* ---------------------------------------------------------------------------------------- sampling -- */

typedef struct rs_sampler_params {
    float temperature;          /* 0: greedy; up to 100 */
    uint32_t top_k;             /* keep the k most likely; 0: all */
    float top_p;                /* keep the smallest set with this probability, (0, 1]; 1: all */
    float min_p;                /* drop tokens below this share of the most likely, [0, 1); 0: none */
    float repetition_penalty;   /* > 0; 1: none. Logits of tokens seen: divided if positive, else multiplied
                                   (CTRL, arXiv 1909.05858, section 4.1) */
    uint32_t repetition_window; /* how many of the last tokens count; 0: all */
    uint64_t seed;              /* same seed, same text */
} rs_sampler_params;

/* Greedy. */
RS_API rs_sampler_params rs_sampler_default_params(void);

/* A sampler's state; the caller's, small, copyable. Fill by rs_sampler_init. */
typedef struct rs_sampler {
    rs_sampler_params params;
    uint64_t state[4];
} rs_sampler;

RS_API rs_status rs_sampler_init(rs_sampler *sampler, const rs_sampler_params *params, rs_error *error);

/* Draws a token from the context's logits. Order: penalty, top-k, temperature, top-p, min-p. */
RS_API rs_status rs_sample(rs_context *context, rs_sampler *sampler, int32_t *token);

typedef enum rs_stop_reason {
    RS_STOP_END = 0,    /* the model ended its turn */
    RS_STOP_TOKEN = 1,  /* one of stop_tokens */
    RS_STOP_STRING = 2, /* one of stop_strings; it is not part of the text */
    RS_STOP_MAX = 3,    /* max_tokens */
    RS_STOP_CALLBACK = 4,
    RS_STOP_FULL = 5, /* the KV cache, or what a policy has room for, is full, or positions are used up */
} rs_stop_reason;

/* Receives whole UTF-8 characters only (a broken tail is given at the very end, as it is). Return false to
 * stop. */
typedef bool (*rs_text_fn)(void *user, const char *text, size_t bytes);

/* Told of every token that is generated, once it is in the cache at `position`, and before its text: a token
 * may have none yet, or none at all. Return false to stop. */
typedef bool (*rs_token_fn)(void *user, int32_t token, int32_t position);

typedef struct rs_generate_params {
    rs_sampler_params sampler;
    uint32_t max_tokens; /* 0: until the cache is full */
    const char *const *stop_strings;
    size_t n_stop_strings; /* at most 16, each 1 to 128 bytes */
    const int32_t *stop_tokens;
    size_t n_stop_tokens;
    rs_text_fn on_text;
    rs_token_fn on_token;
    void *user;
} rs_generate_params;

/* Greedy, until the model ends or the cache is full, no stop strings, no callback. */
RS_API rs_generate_params rs_generate_default_params(void);

typedef struct rs_generate_report {
    uint32_t n_tokens; /* tokens that were generated and are now in the cache */
    rs_stop_reason reason;
    int32_t text_end; /* next_position; with STOP_STRING the position of the token in which the string begins:
                         rs_truncate takes it out from there, with what else that token says */
    double ms;
} rs_generate_report;

/*
 * Samples and decodes from the current logits (decode something first) until one of the reasons. The token
 * that ends it (end of turn, stop token) is not added to the cache; every other generated token is, those of
 * a stop string included. When a step fails, the tokens before it stay, and the report says how many (its
 * reason means nothing then).
 */
RS_API rs_status rs_generate(rs_context *context, const rs_generate_params *params,
                             rs_generate_report *report);

/* ---------------------------------------------------------------------------------------- adapters -- */

typedef enum rs_adapter_kind {
    RS_ADAPTER_STEER = 1,  /* trained for RS_ERASE_STEER */
    RS_ADAPTER_BRIDGE = 2, /* trained for RS_ERASE_BRIDGE */
} rs_adapter_kind;

/*
 * Reads a trained eraser: a GGUF file with low-rank products beside the model's linear layers (LoRA) in
 * llama.cpp's naming, and rasure.adapter.* keys. An adapter is immutable, may be used by any number of
 * contexts and threads of its model, and MUST be freed before the model. Weights are kept in int8, beside the
 * model's and never merged into them; they are used by erase passes only. On failure *adapter is NULL.
 * RS_MISMATCH: made for another model, or of another shape (named); RS_BAD_FILE, RS_UNSUPPORTED, RS_IO,
 * RS_NO_MEMORY, RS_INVALID_ARGUMENT.
 */
RS_API rs_status rs_adapter_load(const rs_model *model, const char *path, rs_adapter **adapter,
                                 rs_error *error);

/* The same for a file that is already in memory; `data` is aligned to 4 and not needed afterwards. */
RS_API rs_status rs_adapter_load_memory(const rs_model *model, const void *data, size_t bytes,
                                        rs_adapter **adapter, rs_error *error);

/* MUST NOT be called while an rs_erase uses it. NULL is fine. */
RS_API void rs_adapter_free(rs_adapter *adapter);

/* Strings live as long as the adapter. */
typedef struct rs_adapter_info {
    rs_adapter_kind kind;
    const char *name;       /* general.name, or "" */
    uint32_t rank;          /* 1 to 64 */
    float alpha;            /* products count alpha / rank */
    uint32_t window;        /* tokens before the hole that its passes see, RS_WINDOW_ALL: all */
    uint32_t sinks;         /* and tokens at the very beginning */
    uint32_t bridge_tokens; /* k of RS_ERASE_BRIDGE, up to 1,024 */
    uint64_t n_params;
    size_t bytes;         /* memory its weights take */
    const char *training; /* how it was trained, as its file says, or "" */
} rs_adapter_info;

RS_API rs_status rs_adapter_get_info(const rs_adapter *adapter, rs_adapter_info *info);

/* ----------------------------------------------------------------------------------------- erasing -- */

typedef struct rs_span {
    int32_t begin, end; /* positions, half-open */
} rs_span;

/* What is promised about the *suffix*, the tokens after the span. The span's own ids, keys and values are
 * always overwritten; by STEER with what is computed from them, out of which a probe still reads what they
 * said (docs/probes.md): not for secrets. */
typedef enum rs_erase_method {
    RS_ERASE_EXACT = 0,  /* suffix recomputed at closed-up positions: as a context that never held the span */
    RS_ERASE_DROP = 1,   /* nothing recomputed, positions kept: the suffix still carries what it absorbed */
    RS_ERASE_SHIFT = 2,  /* as DROP, and suffix keys re-rotated to close the gap: what other runtimes do */
    RS_ERASE_REPAIR = 3, /* as DROP, and the first k tokens after each hole re-encoded without the span */
    RS_ERASE_STEER = 4,  /* KVEraser (arXiv 2606.17034, section 4): the span's entries rewritten by a trained
                            adapter from the span's own tokens, the suffix left alone: it compensates what the
                            suffix absorbed, and what it writes is computed from the erased text. Positions
                            and room stay taken; the tokens become RS_TOKEN_GONE */
    RS_ERASE_BRIDGE = 5, /* as REPAIR, but through a trained adapter and with a window on the prefix: its cost
                            depends neither on the context nor on the span, and nothing that it writes is
                            computed from the erased text */
    RS_ERASE_LEARNED = 6, /* STEER or BRIDGE, whichever the adapter is for */
    RS_ERASE_REFILL = 7, /* the span's entries written anew by the model itself, from filler tokens that stand
                            in place of the span's; positions and room stay taken */
    RS_ERASE_PROGRESSIVE = 8, /* at once BRIDGE, if an adapter is given, else ADAPTIVE, with all gaps behind
                                 the first span closed; and EXACT by rs_refine, in idle time. Positions are
                                 EXACT's from the start: they do not change again. What STEER wrote behind the
                                 first span goes at once, as by EXACT, and what it made up for is open until
                                 then */
    RS_ERASE_ADAPTIVE = 9,    /* as REPAIR with the gap closed, and besides the first k tokens after each hole
                                 those of the suffix are re-encoded that use the span's words again, and what
                                 follows them closely: there it keeps what it absorbed. The rest still does */
    RS_ERASE_AUTO = 10, /* SHIFT, REPAIR (k = 16, the gap closed), ADAPTIVE or EXACT, by what the caller says
                           of max_kl and max_ms and by what is estimated of each */
} rs_erase_method;

RS_API const char *rs_erase_method_name(rs_erase_method method);

/* A window that hides nothing. */
#define RS_WINDOW_ALL UINT32_MAX

/*
 * How far a method leaves a context from EXACT, by what is known when it is chosen. The natural logarithm of
 * KL(EXACT || method), in nats and averaged over the tokens of what is asked next, is taken to be distributed
 * around level + by_strongest * min(strongest, 2) + by_sum * log(1 + sum) with the standard deviation
 * `spread`, where `strongest` and `sum` are of the echoes (echo_bound, below) of those tokens that the method
 * leaves as they are. Fitted by rasure_training.eraser.calibrate.
 */
typedef struct rs_erase_fit {
    float level, by_strongest, by_sum, spread;
} rs_erase_fit;

typedef struct rs_erase_calibration {
    rs_erase_fit shift, repair, adaptive;
} rs_erase_calibration;

/* Of SmolLM2-135M-Instruct: docs/erase_auto.md says on what, and how good it is. ADAPTIVE is expected within
 * 0.018 nats in 95 % of cases, and the most of that is what int8 rounding leaves between two ways to compute
 * the same: a smaller bound means EXACT. */
RS_API rs_erase_calibration rs_erase_default_calibration(void);

typedef struct rs_erase_params {
    rs_erase_method method;
    uint32_t repair_tokens;    /* REPAIR: k, used if not 0. BRIDGE: k, 0: the adapter's. ADAPTIVE: k, 0: 16.
                                  STEER: this many tokens after the span are re-encoded too, as by REPAIR */
    float repair_fraction;     /* REPAIR: else k = this share of the suffix, rounded up; (0, 1] */
    const rs_adapter *adapter; /* STEER, BRIDGE, LEARNED: of the context's model */
    /* What re-encoded tokens see of the tokens before the hole: the first `sinks` and the last `window`.
     * Window 0: both as the adapter says, and everything for REPAIR and REFILL; RS_WINDOW_ALL: everything. */
    uint32_t window, sinks;
    const int32_t *filler; /* REFILL: 1 to 1,048,576 tokens, repeated from each span's begin to its end */
    uint32_t n_filler;
    /* ADAPTIVE: an echo is the sum over the tokens of the span, and of the 8 in front of it, that the suffix
     * uses again, each 1 / its count in what remains, falling by 0.8 from token to token. Tokens whose echo
     * is echo_bound or more are re-encoded; 0: 0.3. The smaller, the more of them. */
    float echo_bound;
    uint32_t max_echoes; /* ADAPTIVE: at most so many besides k, those with the strongest; 0: all */
    bool close_gap; /* DROP, REPAIR, BRIDGE: the suffix moves up, its keys re-rotated, as in SHIFT, before
                     * anything is re-encoded */
    bool force;     /* erase below rs_context_set_head too */
    /* AUTO: at least one of them above 0. The quickest method is taken of which the estimate is within max_kl
     * nats in 95 % of cases; where that takes longer than max_ms is expected to allow, or no max_kl is given,
     * the most exact one that does not, ADAPTIVE with as many echoes as there is time for; SHIFT, where
     * nothing is quick enough. How fast the context reads is known as soon as it has read 16 tokens, or
     * n_batch if that is less, at a time; until then max_kl counts alone, if it is given. With SNAPKV and
     * PYRAMIDKV EXACT may have to read more than was expected. */
    float max_kl;
    double max_ms;
    const rs_erase_calibration *calibration; /* AUTO: NULL: the default, a guess for any other model */
} rs_erase_params;

/* RS_ERASE_EXACT; repair_fraction 0.15; no adapter. */
RS_API rs_erase_params rs_erase_default_params(void);

typedef struct rs_erase_report {
    rs_erase_method method; /* AUTO: the one that it took */
    uint32_t n_spans;
    uint32_t n_erased;     /* tokens removed, or gone from entries that were steered */
    uint32_t n_recomputed; /* tokens of the suffix, of the filler with REFILL, that went through the model */
    uint32_t n_steered;    /* entries of the spans that were rewritten */
    uint32_t n_rotated;    /* suffix tokens whose keys were re-rotated */
    int32_t next_position; /* afterwards */
    double ms;
    /* AUTO: what was estimated beforehand of the method taken; else 0. The KL to EXACT that half of all cases
     * stay below, and 95 % of them, in nats (0 for EXACT); time, 0 while it is not known. */
    float expected_kl, expected_kl_most;
    double expected_ms;
} rs_erase_report;

/*
 * Erases the spans: 1 to 1,024 of them, ascending, not overlapping (adjoining is fine), each with 0 <= begin
 * < end <= next_position and at least one token in it. All or nothing: every span is checked before the
 * first byte is written. Erasing needs no free room in the cache. Afterwards rs_logits is NULL. EXACT takes
 * positions from the first span's begin on, and so closes any older hole behind it too; what tokens *before*
 * the first span absorbed from spans that were dropped earlier stays; it also takes out what STEER left
 * behind the first span. Passes leave the entries of steered tokens as they are, and STEER over a span that
 * is steered already changes nothing. REPAIR's and BRIDGE's k counts from each hole; where a pass runs into
 * the next hole it goes on behind it, and no token is re-encoded twice. Several spans are taken from left to
 * right. Spans that are known together are best erased together: what is encoded again then sees none of
 * them. However often gaps are closed, a key is rounded three times at most. With a policy that
 * evicts, DROP and SHIFT take out what is still there; EXACT reads everything from position 0 again where
 * the policy has evicted what the suffix saw, or has kept so much before it that the suffix read as one call
 * would not fit, and then equals a context that was read so from the start, else it goes on from the span.
 * The other methods rewrite of the tokens that they encode again the entries that are still there: these
 * tokens see what the cache still holds before them, and, n_batch at a time, each other in every head.
 * params NULL: the defaults; report may be NULL. RS_UNSUPPORTED: a learned method without an adapter.
 * RS_NO_SPACE: what was evicted needs room for n_batch entries while it is encoded again, and there is none.
 * RS_MISMATCH: an adapter of another model or kind. PROGRESSIVE in a context that was not made to `refine`
 * is RS_UNSUPPORTED. A failure inside a pass after the checks (XNNPACK's, none else) poisons the context.
 */
RS_API rs_status rs_erase(rs_context *context, const rs_span *spans, size_t n_spans,
                          const rs_erase_params *params, rs_erase_report *report);

/*
 * Puts n_tokens (at least 1) new tokens in place of one span, which is as for rs_erase: its tokens and
 * entries are erased, the new ones are read where it stood and see all that is before them. What lies behind
 * moves up, its keys re-rotated, when they need more positions than the span had; when they need fewer, a gap
 * stays, unless close_gap says otherwise. What becomes of the suffix is as params->method says: EXACT reads
 * all of it again, all older gaps in it closed, and then the context is one that was read so from the start;
 * REPAIR and BRIDGE (LEARNED) encode the k tokens behind the new ones again, ADAPTIVE those too that use
 * words of the old or the new text; DROP none. No other method goes with new tokens. params NULL: EXACT.
 * report may be NULL; n_recomputed counts the new tokens too. RS_UNSUPPORTED: a policy that evicts.
 * RS_NO_SPACE: there is no room for them. Else as rs_erase: all or nothing, and rs_logits is NULL afterwards.
 */
RS_API rs_status rs_replace(rs_context *context, rs_span span, const int32_t *tokens, size_t n_tokens,
                            const rs_erase_params *params, rs_erase_report *report);

/*
 * Takes back the last call of rs_erase or rs_replace, and with it all that was read or taken back since:
 * tokens, positions, protected head and cache are what they were before it, to the byte, and rs_logits is
 * NULL. KV pages are copied into an area of the context before they change for the first time after such a
 * call, so what was erased is *not* gone as long as it can be taken back: rs_forget_undo zeroes it; so does
 * the next such call, for the one before, and whatever makes the cache another (rs_context_reset,
 * rs_context_copy, the end of rs_refine). rs_context_info.can_undo says whether it can be had.
 * RS_UNSUPPORTED: the context was made without the area, or there is nothing to take back. RS_NO_SPACE: the
 * area was too small for what has changed, and is zeroed then.
 */
RS_API rs_status rs_undo(rs_context *context);

/* Zeroes what rs_undo would go back to. */
RS_API void rs_forget_undo(rs_context *context);

/* A part of the context, and how much it depends on something before it. */
typedef struct rs_echo {
    rs_span span;
    float nats; /* above 0: it does */
} rs_echo;

/*
 * Before an erase: which of `n` candidates (1 to 65,536; sentences, say, behind the first span) depend on the
 * spans, which are as for rs_erase. A candidate's `nats` becomes the log-likelihood that its tokens lose when
 * the spans were never read, summed up: what repeats or follows from them has nats, what has nothing to do
 * with them about 0. Candidates are sorted, the most dependent first. What depends on the spans by way of an
 * echo shows when that is one of the spans too. Costs two readings of the tokens from the first span to the
 * last candidate, into the second cache of a context that was made to `refine`; what rs_refine had read there
 * is read again. The first token behind a span, and behind one that was steered, is not counted. Afterwards
 * rs_logits is NULL; nothing else changes. RS_UNSUPPORTED: no second cache, or a policy that evicts.
 * RS_OUT_OF_RANGE: a candidate that is not behind the first span. RS_STOPPED: the progress callback said so;
 * `nats` and order are then of no use.
 */
RS_API rs_status rs_find_echoes(rs_context *context, const rs_span *spans, size_t n_spans, rs_echo *echoes,
                                size_t n);

/*
 * Makes good, in idle time, what erasing has left undone (rs_context_info.n_cheap). The tokens from the
 * first such on are read again into the context's second cache, up to n_batch at a time, until max_tokens of
 * them are (0: all), max_ms have passed (0: as long as it takes), or the progress callback says stop; a later
 * call goes on there. A call reads at least 16 tokens, and with a policy that evicts a chunk of n_batch.
 * Until all are read the context answers from the cache that erasing left; then the two are exchanged, all at
 * once, and the context is what EXACT gives, but that positions stay as they are; after PROGRESSIVE they are
 * EXACT's, and so is every byte. What STEER left is gone too, and with a policy that evicts the window is so
 * much shorter. The old cache is zeroed after that, n_batch tokens at a time and within the same bounds; and
 * at once by the next call that erases, replaces or takes something back. *tokens_left is what is still to be
 * read, or then to be zeroed, about; 0: all is done. Tokens may be added, erased and taken back in between:
 * further erasing, by any method, joins what is to be made good. Afterwards rs_logits is NULL, if the caches
 * were exchanged. RS_UNSUPPORTED: the context was not made to `refine`. RS_NO_SPACE: SNAPKV or PYRAMIDKV have
 * no room for what is to be read, as many short pieces between steered spans are kept whole. A failure inside
 * a pass (XNNPACK's) loses what was read, and nothing else. tokens_left may be NULL.
 */
RS_API rs_status rs_refine(rs_context *context, uint32_t max_tokens, double max_ms, uint32_t *tokens_left);

#ifdef __cplusplus
}
#endif
#endif
