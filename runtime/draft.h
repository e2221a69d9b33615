/* The second cache of a context that was made to refine: what is read into it leaves the first as it is. */
#ifndef RASURE_RUNTIME_DRAFT_H
#define RASURE_RUNTIME_DRAFT_H

#include "runtime/context.h"

/* What passes and policy work on becomes the second cache, or the first again. */
void rs_draft_exchange(rs_context *context);

/* Forgets and zeroes what is in it. */
void rs_draft_empty(rs_context *context);

/* It holds all tokens: the caches are exchanged for good, and it becomes the old one. */
void rs_draft_take_over(rs_context *context);

/* Zeroes about n_tokens of the old one's. */
void rs_draft_zero(rs_context *context, uint32_t n_tokens);

/* How many tokens are still to be read into it, or, about, to be zeroed of the old one. */
uint32_t rs_draft_left(const rs_context *context);

/* It is empty, and becomes what the first is up to the first n_tokens of the list. */
void rs_draft_begin(rs_context *context, uint32_t n_tokens);

/* To be told before the entries of the first at positions >= `position` are changed otherwise than by
 * appending: what was read again of them is of no use any more, and nothing may be left of an old cache. */
void rs_draft_cut(rs_context *context, int32_t position);

/* From list index `first` on entries are cheap; RS_NOTHING_CHEAP, or behind the list: none are. */
void rs_draft_set_cheap(rs_context *context, uint32_t first);

#endif
