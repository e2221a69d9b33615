/* One conversation: the token list, its KV cache and the scratch to run the model over it, all in one arena.
 */
#ifndef RASURE_RUNTIME_CONTEXT_H
#define RASURE_RUNTIME_CONTEXT_H

#include "runtime/attention.h"
#include "runtime/kv.h"
#include "runtime/kv_journal.h"
#include "runtime/linear.h"
#include "runtime/meter.h"
#include "runtime/model.h"
#include "runtime/policy/policy.h"
#include "runtime/team.h"

/* Activations of up to n_batch tokens; one row a token. Zeroed when something is erased. */
typedef struct rs_scratch {
    float *x;                     /* [n_embd] the residual stream */
    float *h;                     /* [n_embd] input or output of a linear layer */
    float *q;                     /* [n_heads * head_dim]; attention's output too */
    float *k, *v;                 /* [n_kv_heads * head_dim] */
    float *hidden, *features;     /* [width], [n_features] of the retention gates, where there are some */
    float *gate, *up;             /* [n_ff] */
    float *low[3];                /* [RS_LORA_MAX_RANK], between the two matrices of an adapter's products */
    float *cosine[RS_ROPE_KINDS]; /* [n_rot / 2] of the tokens' positions */
    float *sine[RS_ROPE_KINDS];
    rs_turn back[RS_ROPE_KINDS], turn[RS_ROPE_KINDS]; /* [n_rot / 2] of keys that move */
    int32_t *tokens, *positions; /* [1] of a pass whose tokens do not follow each other in the list */
} rs_scratch;

#define RS_NOTHING_CHEAP UINT32_MAX

/* What has become of a token's keys since they were read: nothing; moved once, by rotation and rounding; or
 * moved again, with room for turns that can be taken back, and then by so many positions. Most keys move once
 * if at all, and should not pay for that room. */
#define RS_KEYS_READ INT32_MIN
#define RS_KEYS_MOVED (INT32_MIN + 1)

/* A second cache, in which the tokens are read again (refine.c). */
typedef struct rs_draft {
    rs_kv kv;
    rs_span evicted; /* as the policy's, of this cache */
    uint32_t n_read; /* tokens of the list that it holds; 0: nothing */
    uint32_t first;  /* of these, the first that was read and not copied */
    bool is_old;     /* it holds, instead, what the caches' exchange has left and is still to be zeroed */
} rs_draft;

/* What the context was before the last edit (undo.c). */
typedef struct rs_undo_state {
    rs_kv_journal journal;
    int32_t *tokens, *positions, *turns; /* [n_ctx] */
    uint32_t n_tokens, first_cheap;
    int32_t next_position, head_end;
    int32_t begin; /* of what was edited, or has become another since */
    rs_span evicted;
    bool lost; /* more has changed than there was room for, and what was noted is zeroed */
} rs_undo_state;

struct rs_context {
    const rs_model *model;
    rs_context_params params;
    size_t bytes; /* all of the arena, this struct included */
    rs_error error;
    bool poisoned;
    rs_progress_fn progress;
    void *progress_user;

    uint32_t n_tokens;
    int32_t next_position;
    int32_t head_end;   /* tokens at positions below it are erased only when told twice */
    int32_t *tokens;    /* [n_ctx], in order of position; RS_TOKEN_GONE where a span was steered */
    int32_t *positions; /* [n_ctx] */
    int32_t *turns;     /* [n_ctx] RS_KEYS_READ, RS_KEYS_MOVED, or positions */

    uint32_t first_cheap; /* index of the first token whose entries erasing has left as reading would not;
                             RS_NOTHING_CHEAP: there is none */

    rs_kv kv;
    rs_undo_state undo; /* without room for a page in a context that does not undo */
    rs_draft draft;     /* without streams in a context that does not refine */
    rs_policy_state policy;
    rs_meter meter;
    rs_team team;
    rs_linear_work linear;
    rs_attention_work attention;
    rs_scratch scratch;
    size_t scratch_bytes; /* the arena's back end, which holds nothing else */

    double ms_per_token; /* of reading, lately; 0: nothing has been read yet */

    float *logits; /* [n_vocab] */
    bool has_logits;
    struct rs_candidate *candidates; /* [n_vocab], of the sampler */
    char *text;                      /* [text_capacity], held back by rs_generate */
    size_t text_capacity;

    rs_memory_item items[RS_ARENA_MAX_ITEMS];
    size_t n_items;
};

/* RS_POISONED when it is, with a sentence. */
rs_status rs_context_check(rs_context *context);

/* Whether all token ids are within the vocabulary. */
rs_status rs_context_check_ids(rs_context *context, const int32_t *tokens, size_t count);

/* Index of the first token at a position >= `position`; n_tokens if there is none. */
uint32_t rs_context_index(const rs_context *context, int32_t position);

/* Cuts the token list behind its first `kept` entries. */
void rs_context_cut(rs_context *context, uint32_t kept);

/* To be told before the first change of an edit that begins at `position`: this is what rs_undo_state goes
 * back to.
 */
void rs_undo_note(rs_context *context, int32_t position);

/* To be told behind whatever may change pages: what cannot be gone back to is not kept. */
void rs_undo_settle(rs_context *context);

/* Takes the memory for it. */
void rs_undo_layout(rs_context *context, rs_arena *arena);

/* Zeroes scratch and logits: what was computed from erased text. */
void rs_context_clear_scratch(rs_context *context);

/* Tells the progress callback, if any; false when it asks to stop. */
bool rs_context_report(const rs_context *context, uint32_t done, uint32_t total);

#endif
