/* Numbers with a unit become a budget. */
#include "budget.h"

#include <math.h>
#include <string.h>

#include "terminal.h"

enum { DEFAULT_ENTRIES = 1024 };

typedef struct unit {
    const char *name;
    double bytes;
} unit;

static const unit units[] = {{"B", 1},    {"kB", 1e3},   {"KB", 1e3},      {"MB", 1e6},
                             {"GB", 1e9}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}};

static cli_exit refuse(const char *text) {
    return cli_fail(CLI_USAGE,
                    "--budget \"%s\": neither entries (\"1024\"), nor a share of a full cache (\"25%%\"), "
                    "nor bytes (\"8MB\", \"8MiB\")",
                    text);
}

static cli_exit set_entries(uint32_t entries, rs_policy_params *policy) {
    if (!cli_is_policy(policy->policy, CLI_CONTROLS | CLI_GATED))
        return cli_fail(CLI_USAGE,
                        "--budget %u: entries are for random, keynorm and gates; a share (\"25%%\") or bytes "
                        "(\"8MB\") are for any policy",
                        (unsigned)entries);
    policy->budget = entries;
    return CLI_OK;
}

static cli_exit set_share(const cli_engine *engine, double percent, rs_context_params *params) {
    const rs_context_params full = {.n_ctx = params->n_ctx, .n_batch = params->n_batch};
    size_t bytes;
    rs_error error;
    if (percent <= 0 || percent > 100)
        return cli_fail(CLI_USAGE, "--budget: %g %% is not above 0, to 100", percent);
    if (rs_context_cache_size(engine->model, &full, &bytes, &error) != RS_OK) return cli_call_failed(&error);
    params->policy.budget_bytes = (size_t)((double)bytes * percent / 100);
    return CLI_OK;
}

cli_exit cli_set_budget(const cli_engine *engine, const char *text, rs_context_params *params) {
    uint64_t entries;
    double number;
    char digits[32];
    params->policy.budget = DEFAULT_ENTRIES;
    if (text == NULL) return CLI_OK;
    if (cli_parse_u64(text, &entries) && entries <= UINT32_MAX)
        return set_entries((uint32_t)entries, &params->policy);
    const size_t length = strspn(text, "0123456789.");
    if (length == 0 || length >= sizeof digits) return refuse(text);
    memcpy(digits, text, length);
    digits[length] = '\0';
    if (!cli_parse_real(digits, &number)) return refuse(text);
    if (strcmp(text + length, "%") == 0) return set_share(engine, number, params);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text + length, units[i].name) != 0) continue;
        const double bytes = number * units[i].bytes;
        if (bytes < 1 || bytes > 1e15) return refuse(text);
        params->policy.budget_bytes = (size_t)bytes;
        return CLI_OK;
    }
    return refuse(text);
}
