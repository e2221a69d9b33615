/* Names of erase methods, piece by piece. */
#include "method.h"

#include <string.h>

#include "terminal.h"

static const char filler[] = " There is nothing to be read here.";

enum {
    MAX_TOKENS = 1048576,
    SINKS = 4, /* what "windowed" means: as the erasers that are shipped see */
    WINDOW = 64,
    MAX_ECHO = 1000,
    MAX_NATS = 1000,
    MAX_MS = 3600000,
};

static bool parse_count(const char *text, uint32_t *count) {
    uint64_t value;
    if (text == NULL || !cli_parse_u64(text, &value) || value == 0 || value > MAX_TOKENS) return false;
    *count = (uint32_t)value;
    return true;
}

/* "NAME=NUMBER" with a number above 0. */
static bool parse_limit(const char *text, const char *name, double most, double *limit) {
    const size_t length = strlen(name);
    return strncmp(text, name, length) == 0 && text[length] == '=' &&
           cli_parse_real(text + length + 1, limit) && *limit > 0.0 && *limit <= most;
}

/* What adaptive takes, and what auto is held to: "16", "echo=0.3", "most=64"; "kl=0.05", "ms=20". */
static bool parse_choosing(const char *text, rs_erase_params *params) {
    static const char most[] = "most=";
    double number;
    if (params->method == RS_ERASE_AUTO) {
        if (parse_limit(text, "ms", MAX_MS, &params->max_ms)) return true;
        if (!parse_limit(text, "kl", MAX_NATS, &number)) return false;
        params->max_kl = (float)number;
        return true;
    }
    if (strncmp(text, most, sizeof most - 1) == 0)
        return parse_count(text + sizeof most - 1, &params->max_echoes);
    if (!parse_limit(text, "echo", MAX_ECHO, &number)) return parse_count(text, &params->repair_tokens);
    params->echo_bound = (float)number;
    return true;
}

/* What stands between colons behind a method's name: "16", "15%", "full", "windowed" or "window=32". */
static bool parse_option(char *text, rs_erase_params *params) {
    static const char window[] = "window=";
    const rs_erase_method method = params->method;
    const bool repairs = method == RS_ERASE_REPAIR, bridges = method == RS_ERASE_BRIDGE;
    const bool learned = bridges || method == RS_ERASE_STEER || method == RS_ERASE_LEARNED;
    const size_t length = strlen(text);
    if (method == RS_ERASE_ADAPTIVE || method == RS_ERASE_AUTO) return parse_choosing(text, params);
    if (learned && strcmp(text, "full") == 0) {
        params->window = RS_WINDOW_ALL;
        return true;
    }
    if (repairs && strcmp(text, "windowed") == 0) {
        params->window = WINDOW;
        params->sinks = SINKS;
        return true;
    }
    if ((repairs || learned) && strncmp(text, window, sizeof window - 1) == 0) {
        params->sinks = SINKS;
        return parse_count(text + sizeof window - 1, &params->window);
    }
    if (!repairs || length == 0 || text[length - 1] != '%')
        return (repairs || bridges) && parse_count(text, &params->repair_tokens);
    text[length - 1] = '\0';
    double number;
    if (!cli_parse_real(text, &number) || number <= 0.0 || number > 100.0) return false;
    params->repair_fraction = (float)(number / 100.0);
    return params->repair_fraction > 0.0F;
}

/* What stands behind a '+'. */
static bool parse_step(const char *text, rs_erase_params *params) {
    static const char repair[] = "repair:";
    if (strcmp(text, "shift") == 0) {
        params->close_gap = true;
        return true;
    }
    return params->method == RS_ERASE_STEER && strncmp(text, repair, sizeof repair - 1) == 0 &&
           parse_count(text + sizeof repair - 1, &params->repair_tokens);
}

static bool parse_name(const char *name, rs_erase_params *params) {
    int found = RS_ERASE_EXACT;
    while (found <= RS_ERASE_AUTO && strcmp(name, rs_erase_method_name((rs_erase_method)found)) != 0) found++;
    params->method = (rs_erase_method)found;
    return found <= RS_ERASE_AUTO;
}

/* Cuts `text` at the first `separator`; returns what is behind it, NULL when there is none. */
static char *cut(char *text, char separator) {
    char *found = strchr(text, separator);
    if (found != NULL) *found++ = '\0';
    return found;
}

static bool parse_method(const char *text, size_t bytes, cli_method *method) {
    *method = (cli_method){.params = rs_erase_default_params()};
    if (bytes == 0 || bytes >= sizeof method->name) return false;
    memcpy(method->name, text, bytes);

    char copy[sizeof method->name];
    memcpy(copy, method->name, sizeof copy);
    char *step = cut(copy, '+'), *option = cut(copy, ':');
    if (!parse_name(copy, &method->params)) return false;
    for (char *next; option != NULL; option = next) {
        next = cut(option, ':');
        if (!parse_option(option, &method->params)) return false;
    }
    for (char *next; step != NULL; step = next) {
        next = cut(step, '+');
        if (!parse_step(step, &method->params)) return false;
    }
    return true;
}

cli_exit cli_parse_method(const char *text, size_t bytes, cli_method *method) {
    if (parse_method(text, bytes, method)) return CLI_OK;
    return cli_fail(
        CLI_USAGE,
        "method \"%.*s\": not one of exact, drop, shift, repair (repair:16, repair:15%%), adaptive, "
        "auto:kl=NATS, auto:ms=TIME, bridge (bridge:32), steer, learned, refill, progressive; \"rasure run "
        "--help\" says more",
        (int)(bytes < 64 ? bytes : 64), text);
}

/* The first eraser that is for the method; NULL: there is none. */
static const rs_adapter *eraser_for(const cli_engine *engine, rs_erase_method method) {
    for (size_t i = 0; i < engine->n_erasers; i++) {
        rs_adapter_info info;
        rs_adapter_get_info(engine->erasers[i], &info);
        const bool steers = info.kind == RS_ADAPTER_STEER;
        if (method == RS_ERASE_LEARNED || steers == (method == RS_ERASE_STEER)) return engine->erasers[i];
    }
    return NULL;
}

static bool must_have_eraser(rs_erase_method method) {
    return method == RS_ERASE_STEER || method == RS_ERASE_BRIDGE || method == RS_ERASE_LEARNED;
}

bool cli_takes_eraser(const cli_method *method) {
    return must_have_eraser(method->params.method) || method->params.method == RS_ERASE_PROGRESSIVE;
}

static cli_exit bind_eraser(const cli_engine *engine, cli_method *method) {
    rs_erase_params *params = &method->params;
    if (cli_takes_eraser(method)) params->adapter = eraser_for(engine, params->method);
    if (!must_have_eraser(params->method) || params->adapter != NULL) return CLI_OK;
    return cli_fail(CLI_USAGE, "%s needs a trained eraser, and %s: --eraser PATH",
                    rs_erase_method_name(params->method),
                    engine->n_erasers > 0 ? "none that is given is for it" : "none is given");
}

cli_exit cli_bind_method(cli_engine *engine, cli_method *method) {
    rs_erase_params *params = &method->params;
    if (params->method != RS_ERASE_REFILL) return bind_eraser(engine, method);
    cli_exit code = CLI_OK;
    if (engine->filler.count == 0) code = cli_add_text(engine, &engine->filler, filler, sizeof filler - 1, 0);
    params->filler = engine->filler.ids;
    params->n_filler = (uint32_t)engine->filler.count;
    return code;
}
