/* rasure tokenize: text to token ids and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "json.h"
#include "terminal.h"

/* Reads "1, 2 3": whole numbers with commas or white space between them. */
static cli_exit parse_ids(const char *text, cli_tokens *tokens) {
    static const char separators[] = ", \t\r\n";
    for (text += strspn(text, separators); *text != '\0'; text += strspn(text, separators)) {
        const size_t length = strcspn(text, separators);
        char number[16] = "";
        uint64_t value;
        if (length < sizeof number) memcpy(number, text, length);
        if (!cli_parse_u64(number, &value) || value > INT32_MAX)
            return cli_fail(CLI_USAGE, "tokenize: --decode: \"%.*s\" is no token id",
                            (int)(length < 40 ? length : 40), text);
        const int32_t id = (int32_t)value;
        cli_tokens_add(tokens, &id, 1);
        text += length;
    }
    return CLI_OK;
}

/* The text: the arguments with a space between them, else the file, else stdin. */
static cli_exit read_text(cli_text *text, const char *file, int n, char **arguments) {
    if (n > 0 && file != NULL) return cli_fail(CLI_USAGE, "tokenize: a text and --file: one of them");
    if (n == 0) return cli_text_read(text, file);
    for (int i = 0; i < n; i++) {
        if (i > 0) cli_text_add(text, " ", 1);
        cli_text_add(text, arguments[i], strlen(arguments[i]));
    }
    return CLI_OK;
}

static void print_ids(const cli_tokens *tokens) {
    for (size_t i = 0; i < tokens->count; i++) printf("%s%d", i > 0 ? " " : "", (int)tokens->ids[i]);
    putchar('\n');
}

static cli_exit print_table(const cli_engine *engine, const cli_tokens *tokens) {
    cli_exit code = CLI_OK;
    cli_text piece = {0};
    for (size_t i = 0; i < tokens->count && code == CLI_OK; i++) {
        piece.bytes = 0;
        code = cli_detokenize(engine, &tokens->ids[i], 1, true, &piece);
        if (code != CLI_OK) break;
        printf("%6zu  %7d  ", i, (int)tokens->ids[i]);
        json_t *quoted = json_stringn(piece.data, piece.bytes); /* NULL when it is no UTF-8 by itself */
        if (quoted != NULL) json_dumpf(quoted, stdout, JSON_ENCODE_ANY);
        for (size_t b = 0; quoted == NULL && b < piece.bytes; b++)
            printf("%02x ", (unsigned char)piece.data[b]);
        putchar('\n');
        json_decref(quoted);
    }
    cli_text_free(&piece);
    return code;
}

/* A piece that is no UTF-8 by itself is given as "hex". */
static cli_exit print_json(const cli_engine *engine, const cli_tokens *tokens) {
    cli_exit code = CLI_OK;
    cli_text piece = {0};
    json_t *list = json_array();
    for (size_t i = 0; i < tokens->count && code == CLI_OK; i++) {
        piece.bytes = 0;
        code = cli_detokenize(engine, &tokens->ids[i], 1, true, &piece);
        if (code != CLI_OK) break;
        json_t *item = json_object();
        cli_json_set_int(item, "id", (uint64_t)tokens->ids[i]);
        if (cli_is_utf8(piece.data, piece.bytes)) {
            json_object_set_new(item, "text", json_stringn(piece.data, piece.bytes));
        } else {
            char hex[2 * 64 + 1] = "";
            for (size_t b = 0; b < piece.bytes && b < 64; b++)
                snprintf(hex + 2 * b, 3, "%02x", (unsigned char)piece.data[b]);
            cli_json_set_text(item, "hex", hex);
        }
        json_array_append_new(list, item);
    }
    cli_text_free(&piece);
    json_t *root = json_object();
    cli_json_set_int(root, "count", tokens->count);
    json_object_set_new(root, "tokens", list);
    if (code == CLI_OK) cli_json_print(stdout, root, 0);
    else json_decref(root);
    return code;
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    bool special = false, bos = false, ids_only = false, json = false;
    const char *file = NULL, *decode = NULL;
    const cli_option options[] = {
        {'f', "file", "PATH", "tokenize this file instead of stdin", .string = &file},
        {0, "special", NULL,
         "\"<|im_end|>\" in the text becomes that token; in --decode, control tokens\n"
         "give their text",
         .flag = &special},
        {0, "bos", NULL, "the model's BOS token first, if its file asks for one", .flag = &bos},
        {0, "ids", NULL, "ids only, on one line", .flag = &ids_only},
        {0, "json", NULL, "one JSON object", .flag = &json},
        {0, "decode", "IDS", "the other way: ids to bytes, as they are", .string = &decode},
    };
    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, sizeof options / sizeof options[0], &setup, argc, argv, &first, &code))
        return code;
    if (ids_only && json) return cli_fail(CLI_USAGE, "tokenize: --ids and --json: one of them");
    if (decode != NULL && (file != NULL || bos || ids_only || json))
        return cli_fail(CLI_USAGE, "tokenize: --decode goes with --special only");
    if (decode != NULL && first < argc) return cli_unexpected(command, argv[first]);

    setup.linear = RS_LINEAR_NATIVE; /* nothing is multiplied here, so nothing needs packing */
    cli_engine engine = {0};
    cli_text text = {0};
    cli_tokens tokens = {0};
    code = decode != NULL ? parse_ids(decode, &tokens) : read_text(&text, file, argc - first, argv + first);
    if (code == CLI_OK) code = cli_open_model(&engine, &setup);
    if (code == CLI_OK && decode != NULL) {
        code = cli_detokenize(&engine, tokens.ids, tokens.count, special, &text);
        if (code == CLI_OK) cli_print_text(stdout, text.data, text.bytes);
    } else if (code == CLI_OK) {
        const uint32_t flags = (special ? RS_TOKENIZE_SPECIAL : 0U) | (bos ? RS_TOKENIZE_BOS : 0U);
        code = cli_add_text(&engine, &tokens, text.data, text.bytes, flags);
        if (code == CLI_OK && ids_only) print_ids(&tokens);
        else if (code == CLI_OK) code = json ? print_json(&engine, &tokens) : print_table(&engine, &tokens);
    }
    cli_text_free(&text);
    cli_tokens_free(&tokens);
    cli_close(&engine);
    return code;
}

const cli_command cli_command_tokenize = {
    "tokenize",
    "text to token ids, and back",
    "[options] [TEXT...]",
    "Splits text (the arguments, --file, or stdin) into the model's tokens and prints one a line: index, "
    "id,\n"
    "and the text it stands for (in hexadecimal where it is no UTF-8 by itself).\n"
    "\"rasure tokenize --decode 1,2,3\" writes the bytes that the ids stand for.",
    run,
};
