/* Going back to before the last edit. */
#include <inttypes.h>
#include <string.h>

#include "ports/port.h"
#include "runtime/draft.h"
#include "runtime/status.h"

void rs_undo_layout(rs_context *context, rs_arena *arena) {
    static const char name[] = "undo area";
    rs_undo_state *u = &context->undo;
    rs_kv_journal_layout(&u->journal, arena, &context->kv, context->params.undo_bytes);
    u->tokens = rs_arena_take(arena, name, context->params.n_ctx, sizeof *u->tokens);
    u->positions = rs_arena_take(arena, name, context->params.n_ctx, sizeof *u->positions);
    u->turns = rs_arena_take(arena, name, context->params.n_ctx, sizeof *u->turns);
}

void rs_undo_note(rs_context *context, int32_t position) {
    rs_context *c = context;
    rs_undo_state *u = &c->undo;
    if (u->tokens == NULL) return;
    rs_forget_undo(c);
    rs_kv_journal_begin(&u->journal, &c->kv);
    memcpy(u->tokens, c->tokens, c->n_tokens * sizeof *u->tokens);
    memcpy(u->positions, c->positions, c->n_tokens * sizeof *u->positions);
    memcpy(u->turns, c->turns, c->n_tokens * sizeof *u->turns);
    u->n_tokens = c->n_tokens;
    u->first_cheap = c->first_cheap;
    u->next_position = c->next_position;
    u->head_end = c->head_end;
    u->begin = position;
    u->evicted = c->policy.evicted;
}

void rs_undo_settle(rs_context *context) {
    const rs_kv_journal *journal = &context->undo.journal;
    if (!journal->active || rs_kv_journal_is_whole(journal)) return;
    rs_forget_undo(context);
    context->undo.lost = true;
}

void rs_forget_undo(rs_context *context) {
    if (context == NULL || context->undo.tokens == NULL) return;
    rs_undo_state *u = &context->undo;
    u->lost = false;
    rs_kv_journal_forget(&u->journal, &context->kv);
    rs_port_secure_zero(u->tokens, u->n_tokens * sizeof *u->tokens);
    rs_port_secure_zero(u->positions, u->n_tokens * sizeof *u->positions);
    rs_port_secure_zero(u->turns, u->n_tokens * sizeof *u->turns);
    u->n_tokens = 0;
}

rs_status rs_undo(rs_context *context) {
    RS_TRY(rs_context_check(context));
    rs_context *c = context;
    rs_undo_state *u = &c->undo;
    if (u->tokens == NULL)
        return rs_fail(&c->error, RS_UNSUPPORTED, "the context was made without an undo area");
    if (u->lost) {
        return rs_fail(&c->error, RS_NO_SPACE,
                       "the undo area holds %" PRIu32 " pages, and more have changed: nothing is taken back",
                       u->journal.max_pages);
    }
    if (!u->journal.active)
        return rs_fail(&c->error, RS_UNSUPPORTED, "there is nothing to take back, or it was forgotten");
    rs_draft_cut(c, u->begin);
    rs_context_cut(c, 0);
    memcpy(c->tokens, u->tokens, u->n_tokens * sizeof *u->tokens);
    memcpy(c->positions, u->positions, u->n_tokens * sizeof *u->positions);
    memcpy(c->turns, u->turns, u->n_tokens * sizeof *u->turns);
    c->n_tokens = u->n_tokens;
    rs_draft_set_cheap(c, u->first_cheap);
    c->next_position = u->next_position;
    c->head_end = u->head_end;
    c->policy.evicted = u->evicted;
    rs_kv_journal_back(&u->journal, &c->kv);
    rs_forget_undo(c);
    rs_context_clear_scratch(c);
    return RS_OK;
}
