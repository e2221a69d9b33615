/* The pieces of erasing and replacing: what changes list and cache, and the passes that write to entries. */
#include "runtime/edit.h"

#include "ports/port.h"
#include "runtime/chunk.h"
#include "runtime/status.h"

/* -------------------------------------------------------------------------------------- list, cache -- */

static void move_token(rs_context *c, uint32_t to, uint32_t from) {
    c->tokens[to] = c->tokens[from];
    c->positions[to] = c->positions[from];
    c->turns[to] = c->turns[from];
}

uint32_t rs_edit_drop(rs_context *context, const rs_span *spans, size_t n_spans) {
    rs_context *c = context;
    const uint32_t n_before = c->n_tokens;
    uint32_t kept = rs_context_index(c, spans[0].begin);
    size_t s = 0;
    for (uint32_t i = kept; i < c->n_tokens; i++) {
        while (s < n_spans && c->positions[i] >= spans[s].end) s++;
        if (s < n_spans && c->positions[i] >= spans[s].begin) continue;
        move_token(c, kept++, i);
    }
    rs_context_cut(c, kept);
    for (size_t i = 0; i < n_spans; i++) rs_kv_remove(&c->kv, &c->team, spans[i].begin, spans[i].end);
    return n_before - c->n_tokens;
}

/* Tokens that follow each other in the list and whose keys have the same past. */
typedef struct rotate_task {
    const rs_context *context;
    int32_t begin, end; /* positions of the entries to move */
    int32_t by;
    int32_t turn; /* as in the context's `turns` */
} rotate_task;

static bool is_turned(int32_t turn) {
    return turn != RS_KEYS_READ && turn != RS_KEYS_MOVED;
}

static void rotate_stream(void *argument, size_t thread, size_t index) {
    const rotate_task *task = argument;
    (void)thread;
    const rs_context *c = task->context;
    const rs_model *model = c->model;
    const uint32_t rope = model->layers[index / model->shape.n_kv_heads].rope;
    const bool turned = is_turned(task->turn);
    rs_kv_rotate(&c->kv, model->kernels, &c->kv.streams[index],
                 &(rs_kv_rotation){.begin = task->begin,
                                   .end = task->end,
                                   .by = task->by,
                                   .cosine = c->scratch.cosine[rope],
                                   .sine = c->scratch.sine[rope],
                                   .room = task->turn == RS_KEYS_MOVED,
                                   .back = turned && task->turn != 0 ? &c->scratch.back[rope] : NULL,
                                   .turn = turned ? &c->scratch.turn[rope] : NULL,
                                   .dim = model->shape.n_rot,
                                   .interleaved = model->shape.rope_interleaved});
}

/* R(p + by) k = R(by) R(p) k (RoPE, arXiv 2104.09864, section 3.2). Rounding each time would add up, so that
 * keys that move again and again are turned from where they had been rounded last. */
static void rotate_run(rs_context *c, uint32_t first, uint32_t n, int32_t by) {
    const int32_t turn = c->turns[first];
    for (int kind = 0; kind < RS_ROPE_KINDS; kind++) {
        if (c->model->rope_freq[kind] == NULL) continue;
        if (is_turned(turn)) {
            rs_rope_turn(c->model, kind, turn, &c->scratch.back[kind]);
            rs_rope_turn(c->model, kind, turn + by, &c->scratch.turn[kind]);
        } else {
            rs_rope_angles(c->model, kind, by, c->scratch.cosine[kind], c->scratch.sine[kind]);
        }
    }
    rotate_task task = {c, c->positions[first], c->positions[first + n - 1] + 1, by, turn};
    rs_team_run(&c->team, rotate_stream, &task, c->kv.n_streams);
    const int32_t then = turn == RS_KEYS_READ ? RS_KEYS_MOVED : turn == RS_KEYS_MOVED ? 0 : turn + by;
    for (uint32_t i = first; i < first + n; i++) c->turns[i] = then;
}

typedef struct rotation {
    rs_context *context;
    uint32_t from, to; /* list indices */
    int32_t by;
} rotation;

/* The run that moves first is the one ahead, so that entries stay in order. */
static void rotate_runs(void *argument) {
    const rotation *r = argument;
    rs_context *c = r->context;
    uint32_t from = r->from, to = r->to;
    while (from < to) {
        const bool up = r->by > 0;
        const uint32_t ahead = up ? to - 1 : from;
        uint32_t n = 1;
        while (n < to - from && c->turns[up ? ahead - n : ahead + n] == c->turns[ahead]) n++;
        rotate_run(c, up ? to - n : from, n, r->by);
        if (up) to -= n;
        else from += n;
    }
}

void rs_edit_rotate(rs_context *context, int32_t begin, int32_t end, int32_t by) {
    rotation r = {context, rs_context_index(context, begin), rs_context_index(context, end), by};
    if (r.from < r.to) rs_team_section(&context->team, rotate_runs, &r);
}

/* The position of a token of the list; the next one behind its end. */
static int32_t position_at(const rs_context *c, uint32_t index) {
    return index < c->n_tokens ? c->positions[index] : c->next_position;
}

/* Where a position comes to lie when all tokens behind `closed` have moved; `index`: of its token. */
static int32_t moved_up(const rs_context *c, int32_t position, uint32_t index, int32_t closed) {
    return position <= closed ? position : position_at(c, index);
}

void rs_edit_close_all(rs_context *context, uint32_t first, int32_t position) {
    rs_context *c = context;
    const int32_t closed = position, head_end = c->head_end;
    const rs_span gone = c->policy.evicted;
    const uint32_t head = rs_context_index(c, head_end);
    const uint32_t gone_from = rs_context_index(c, gone.begin), gone_to = rs_context_index(c, gone.end);
    for (uint32_t i = first; i < c->n_tokens;) {
        const int32_t from = c->positions[i], by = position - from;
        uint32_t n = 1;
        while (i + n < c->n_tokens && c->positions[i + n] == from + (int32_t)n) n++;
        if (by != 0) rs_edit_rotate(c, from, from + (int32_t)n, by);
        for (uint32_t k = 0; k < n; k++) c->positions[i + k] += by;
        position += (int32_t)n;
        i += n;
    }
    c->next_position = position;
    c->head_end = moved_up(c, head_end, head, closed);
    rs_policy_set_evicted(&c->policy, (rs_span){moved_up(c, gone.begin, gone_from, closed),
                                                moved_up(c, gone.end, gone_to, closed)});
}

void rs_edit_forget_gone(rs_context *context, uint32_t first) {
    rs_context *c = context;
    uint32_t kept = first;
    for (uint32_t i = first; i < c->n_tokens; i++) {
        if (c->tokens[i] == RS_TOKEN_GONE) continue;
        move_token(c, kept++, i);
    }
    rs_context_cut(c, kept);
}

void rs_edit_drop_gone(rs_context *context, uint32_t first) {
    rs_context *c = context;
    for (uint32_t i = first, n; i < c->n_tokens; i += n) {
        n = 1;
        if (c->tokens[i] != RS_TOKEN_GONE) continue;
        while (i + n < c->n_tokens && c->tokens[i + n] == RS_TOKEN_GONE) n++;
        rs_kv_remove(&c->kv, &c->team, c->positions[i], c->positions[i + n - 1] + 1);
    }
    rs_edit_forget_gone(c, first);
}

/* ------------------------------------------------------------------------------------------ passes -- */

rs_visible rs_edit_visible(const rs_context *context, uint32_t sinks, uint32_t window, uint32_t first) {
    if (window == RS_WINDOW_ALL || (uint64_t)window + sinks >= first) return rs_visible_all();
    return (rs_visible){
        .sinks_end = sinks > 0 ? context->positions[sinks - 1] + 1 : 0,
        .window_begin = context->positions[first - window],
    };
}

/* The next tokens of the list within [at, end) that one pass can take: neighbours that are still known.
 * Returns how many; *at is where they begin. */
static uint32_t next_chunk(const rs_context *c, uint32_t *at, uint32_t end) {
    while (*at < end && c->tokens[*at] == RS_TOKEN_GONE) ++*at;
    uint32_t count = 0;
    while (*at + count < end && count < c->params.n_batch && c->tokens[*at + count] != RS_TOKEN_GONE) count++;
    return count;
}

typedef struct lending {
    rs_context *context;
    const int32_t *positions;
    uint32_t count;
} lending;

static void lend(void *user, rs_streams streams) {
    const lending *l = user;
    rs_kv_lend(&l->context->kv, &l->context->policy.loan, streams, l->positions, l->count);
}

static void take_back(void *user, rs_streams streams) {
    const lending *l = user;
    rs_context *c = l->context;
    rs_kv_take_back(&c->kv, &c->team, &c->policy.loan, streams, l->positions, l->count);
}

/* Threads share the tokens of a pass, and so the pages of a stream. */
static void touch_pages(const rs_context *c, const rs_pass *pass) {
    for (uint32_t s = 0; c->kv.journal != NULL && s < c->kv.n_streams; s++) {
        const rs_kv_stream *stream = &c->kv.streams[s];
        rs_kv_cursor at;
        bool found = false;
        for (uint32_t i = 0; i < pass->count; i++) {
            const int32_t position = pass->positions[i];
            found = found ? rs_kv_advance(&c->kv, stream, position, &at)
                          : rs_kv_seek(&c->kv, stream, position, &at);
            if (found) rs_kv_touch(&c->kv, stream->pages[at.page_index]);
        }
    }
}

rs_status rs_edit_pass(rs_context *context, rs_pass pass) {
    rs_context *c = context;
    touch_pages(c, &pass);
    lending l = {c, pass.positions, pass.count};
    const rs_pass_entries entries = {lend, take_back, &l, rs_policy_layers_at_once(&c->policy)};
    if (pass.positions[0] < c->policy.evicted.end) pass.entries = &entries;
    RS_TRY(rs_forward(c, &pass));
    for (uint32_t i = 0; i < pass.count; i++) c->turns[rs_context_index(c, pass.positions[i])] = RS_KEYS_READ;
    return RS_OK;
}

rs_status rs_edit_encode(rs_context *context, uint32_t begin, uint32_t end, rs_visible visible,
                         const rs_adapter *adapter, uint32_t *done) {
    rs_context *c = context;
    uint32_t at = begin;
    for (uint32_t count; (count = next_chunk(c, &at, end)) > 0; at += count) {
        RS_TRY(rs_edit_pass(c, (rs_pass){.tokens = c->tokens + at,
                                         .positions = c->positions + at,
                                         .count = count,
                                         .visible = visible,
                                         .adapter = adapter,
                                         .kv_only = true}));
        *done += count;
        (void)rs_context_report(c, at + count - begin, end - begin);
    }
    return RS_OK;
}

rs_status rs_edit_read_again(rs_context *context, uint32_t first, uint32_t *done) {
    rs_context *c = context;
    for (uint32_t at = first; at < c->n_tokens;) {
        uint32_t n_patch;
        const uint32_t count = rs_policy_chunk(&c->policy, c->n_tokens - at, c->params.n_batch, &n_patch);
        RS_TRY(rs_chunk_read(c, &(rs_chunk){.first = at,
                                            .count = count,
                                            .patch = c->tokens + c->n_tokens - n_patch,
                                            .n_patch = n_patch,
                                            .again = true}));
        for (uint32_t i = at; i < at + count; i++) c->turns[i] = RS_KEYS_READ;
        at += count;
        *done += count;
        (void)rs_context_report(c, at - first, c->n_tokens - first);
    }
    return RS_OK;
}

rs_status rs_edit_finish(rs_context *context, rs_status status, uint64_t start_ns,
                         const rs_erase_report *result, rs_erase_report *report) {
    rs_context_clear_scratch(context);
    rs_undo_settle(context);
    if (status != RS_OK) {
        context->poisoned = true;
        return status;
    }
    if (report == NULL) return RS_OK;
    *report = *result;
    report->next_position = context->next_position;
    report->ms = (double)(rs_port_clock_ns() - start_ns) / 1e6;
    return RS_OK;
}
