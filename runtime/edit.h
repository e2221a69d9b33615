/* What erasing, replacing and refining are made of. */
#ifndef RASURE_RUNTIME_EDIT_H
#define RASURE_RUNTIME_EDIT_H

#include "runtime/adapter.h"
#include "runtime/context.h"
#include "runtime/forward.h"

/* ------------------------------------------------------------------------- checks (edit_params.c) -- */

/* Whether a call may have these spans; below the protected head only by `force`. */
rs_status rs_edit_check_spans(rs_context *context, const rs_span *spans, size_t n_spans, bool force);

/* Fills in what the caller has left open: no method is LEARNED or PROGRESSIVE any more. */
rs_status rs_edit_complete(rs_context *context, rs_erase_params *params);

enum { RS_MAX_SPANS = 1024 }; /* of a call */

/* How many of the `suffix` tokens behind a hole REPAIR and BRIDGE encode again. */
uint32_t rs_edit_repair_count(const rs_erase_params *params, uint32_t suffix);

/* -------------------------------------------------------------------------------- pieces (edit.c) -- */

/* Takes the tokens of spans (ascending, at least one) out of list and cache; the others keep their positions.
 * Returns how many. */
uint32_t rs_edit_drop(rs_context *context, const rs_span *spans, size_t n_spans);

/* Moves the entries at positions [begin, end) by `by` positions, their keys re-rotated. The list's positions
 * stay. */
void rs_edit_rotate(rs_context *context, int32_t begin, int32_t end, int32_t by);

/* Moves all tokens from list index `first` on together, to positions from `position` on: no gap is left. */
void rs_edit_close_all(rs_context *context, uint32_t first, int32_t position);

/* Takes tokens that are RS_TOKEN_GONE out of the list, from index `first` on. */
void rs_edit_forget_gone(rs_context *context, uint32_t first);

/* The same, and what was written in their place out of the cache. */
void rs_edit_drop_gone(rs_context *context, uint32_t first);

/* What a pass over the tokens from list index `first` on sees of those before it: the first `sinks` and the
 * last `window`. RS_WINDOW_ALL: everything. */
rs_visible rs_edit_visible(const rs_context *context, uint32_t sinks, uint32_t window, uint32_t first);

/* Runs some tokens of the list through the model again, into their own entries. Where a policy has evicted
 * some of those, they are there for the pass, so that its tokens see each other in every head as when they
 * were read. */
rs_status rs_edit_pass(rs_context *context, rs_pass pass);

/* Runs tokens [begin, end) of the list through the model again, into their own entries; adds how many to
 * *done. Steered tokens' entries stay as they are. */
rs_status rs_edit_encode(rs_context *context, uint32_t begin, uint32_t end, rs_visible visible,
                         const rs_adapter *adapter, uint32_t *done);

/* Reads the tokens of the list from index `first` on, which have no entries, as one call of prefill would;
 * adds how many to *done. */
rs_status rs_edit_read_again(rs_context *context, uint32_t first, uint32_t *done);

/* What comes behind an edit that began at `start_ns`: a failure poisons the context, a success completes the
 * report. Returns `status`. */
rs_status rs_edit_finish(rs_context *context, rs_status status, uint64_t start_ns,
                         const rs_erase_report *result, rs_erase_report *report);

/* ---------------------------------------------------------------------- adaptive repair (adaptive.c) -- */

enum { RS_ADAPTIVE_TOKENS = 16 };
#define RS_ADAPTIVE_BOUND 0.3f

/* Before an edit: no words are known. They are taken down in the room for logits, which no edit leaves. */
void rs_adaptive_begin(rs_context *context);

/* Words of list tokens [first, end), which are erased, and of the few in front of them. */
void rs_adaptive_note_span(rs_context *context, uint32_t first, uint32_t end);

/* Words of what is new. */
void rs_adaptive_note(rs_context *context, const int32_t *tokens, uint32_t count);

/* Behind the edit, once: what each word weighs in what remains. What follows rests on it. */
void rs_adaptive_weigh(rs_context *context);

/* What speaks of the erased text behind the first hole, and how much of it a choice of tokens takes: the
 * first repair_tokens behind each hole (list indices, ascending), and of the others those whose echo is
 * echo_bound or more, at most max_echoes of them if that is not 0. */
typedef struct rs_evidence {
    uint32_t n_near, n_far; /* tokens taken: behind a hole; because of their echo */
    float strongest, sum;   /* of the echoes of those that are not taken */
} rs_evidence;

rs_evidence rs_adaptive_evidence(const rs_context *context, const uint32_t *holes, size_t n_holes,
                                 const rs_erase_params *params);

/* Encodes the tokens of that choice again; adds how many to *done. */
rs_status rs_adaptive_encode(rs_context *context, const uint32_t *holes, size_t n_holes,
                             const rs_erase_params *params, uint32_t *done);

/* ------------------------------------------------------------------------------ choosing (auto.c) -- */

/* Behind DROP, with the words weighed: AUTO becomes one of SHIFT, REPAIR, ADAPTIVE and EXACT, completed, and
 * the report says what is expected of it. n_exact: tokens that EXACT would read. */
void rs_auto_choose(const rs_context *context, const uint32_t *holes, size_t n_holes, uint32_t n_exact,
                    rs_erase_params *params, rs_erase_report *report);

#endif
