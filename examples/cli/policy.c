/* What a context keeps, said to people and to programs. */
#include "policy.h"

#include "json.h"

static rs_policy_params policy_of(const cli_engine *engine) {
    rs_context_info info;
    rs_context_get_info(engine->context, &info);
    return info.policy;
}

static uint32_t count_heads(const cli_engine *engine) {
    return engine->info.n_layers * engine->info.n_kv_heads;
}

static uint32_t count_full(const cli_engine *engine, const rs_policy_params *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; p->full_heads != NULL && i < count_heads(engine); i++) n += p->full_heads[i];
    return n;
}

static bool has_budget(const rs_policy_params *p) {
    return cli_is_policy(p->policy, CLI_CONTROLS | CLI_GATED);
}

static bool has_share(const rs_policy_params *p) {
    return cli_is_policy(p->policy, CLI_OBSERVED);
}

void cli_print_policy(FILE *stream, const cli_engine *engine) {
    const rs_policy_params p = policy_of(engine);
    fprintf(stream, "policy   %s: ", rs_policy_name(p.policy));
    if (p.policy == RS_POLICY_FULL) {
        fputs("everything is kept\n", stream);
        return;
    }
    if (p.full_heads != NULL)
        fprintf(stream, "everything in %u of %u heads, in the others ", count_full(engine, &p),
                count_heads(engine));
    if (has_share(&p))
        fprintf(stream, "%.1f %% of each chunk, by its last %u tokens\n", 100.0 * (double)p.keep,
                p.observers);
    else fprintf(stream, "the first %u tokens and the last %u", p.sinks, p.window + p.rewind);
    if (has_budget(&p))
        fprintf(stream, ", of up to %u%s", p.budget, p.policy == RS_POLICY_GATES ? " on average" : "");
    if (!has_share(&p)) fputc('\n', stream);
}

json_t *cli_policy_json(const cli_engine *engine) {
    const rs_policy_params p = policy_of(engine);
    json_t *object = json_object();
    cli_json_set_text(object, "name", rs_policy_name(p.policy));
    if (p.policy == RS_POLICY_FULL) return object;
    cli_json_set_int(object, "full_heads", count_full(engine, &p));
    cli_json_set_int(object, "heads", count_heads(engine));
    if (has_share(&p)) {
        cli_json_set_real(object, "keep", (double)p.keep);
        cli_json_set_int(object, "observers", p.observers);
        json_object_set_new(object, "patched", json_boolean(p.patched));
        return object;
    }
    cli_json_set_int(object, "sinks", p.sinks);
    cli_json_set_int(object, "window", p.window);
    cli_json_set_int(object, "rewind", p.rewind);
    if (has_budget(&p)) cli_json_set_int(object, "budget", p.budget);
    return object;
}
