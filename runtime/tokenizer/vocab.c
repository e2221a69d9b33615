/* The vocabulary: one pass over the file's pieces writes out the bytes they stand for and indexes those. */
#include "runtime/tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/hash.h"
#include "runtime/status.h"

/* No honest vocabulary comes near this many probes in a table that is half empty. One that was made to
 * collide is refused, so that neither opening nor looking up can be made slow. */
enum { MAX_PROBES = 1024 };

/* Of a slot; the bits above are the hash's, so that few tokens are compared in vain. */
enum { TOKEN_BITS = 21 };
_Static_assert(RS_MAX_VOCAB < 1 << TOKEN_BITS, "a slot holds a token + 1");

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char kinds_key[] = "tokenizer.ggml.token_type";

static bool is_chat_marker(rs_string text) {
    static const char *const markers[] = {
        "<|im_start|>", "<|im_end|>",      "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
        "<|eom_id|>",   "<start_of_turn>", "<end_of_turn>",       "<|endoftext|>",     "<|end_of_text|>",
    };
    if (text.bytes == 0 || text.data[0] != '<') return false;
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++)
        if (rs_string_is(text, markers[i])) return true;
    return false;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>"; -1 for anything else. */
static int parse_byte_token(rs_string piece) {
    if (piece.bytes != 6 || memcmp(piece.data, "<0x", 3) != 0 || piece.data[5] != '>') return -1;
    const int high = hex_digit(piece.data[3]), low = hex_digit(piece.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* ---------------------------------------------------------------------------------------------- index -- */

static uint64_t hash_text(const char *text, size_t bytes) {
    const uint64_t hash = rs_fnv1a(RS_FNV1A_START, text, bytes); /* its low bits are weak, hence the fold */
    return hash ^ hash >> 29;
}

/* What the slot of `token` holds, for a text with this hash. */
static uint32_t slot_value(uint64_t hash, uint32_t token) {
    return (uint32_t)(hash >> 32 >> TOKEN_BITS << TOKEN_BITS) | (token + 1);
}

static uint32_t slot_token(uint32_t slot) {
    return (slot & ((1u << TOKEN_BITS) - 1)) - 1;
}

/* The slot of this text, or the empty one where it belongs; NULL after too many probes. */
static uint32_t *find_slot(const rs_vocab *vocab, uint64_t hash, const char *text, size_t bytes) {
    for (uint64_t probe = 0; probe < MAX_PROBES; probe++) {
        uint32_t *slot = &vocab->slots[(hash + probe) & vocab->slot_mask];
        if (*slot == 0) return slot;
        if (*slot != slot_value(hash, slot_token(*slot))) continue;
        const rs_string found = rs_vocab_text(vocab, slot_token(*slot));
        if (found.bytes == bytes && memcmp(found.data, text, bytes) == 0) return slot;
    }
    return NULL;
}

static rs_status add_to_index(rs_vocab *vocab, uint32_t token, rs_error *error) {
    const rs_string text = rs_vocab_text(vocab, token);
    if (text.bytes == 0) return RS_OK;
    const uint64_t hash = hash_text(text.data, text.bytes);
    uint32_t *slot = find_slot(vocab, hash, text.data, text.bytes);
    if (slot == NULL)
        return rs_fail(error, RS_BAD_FILE, "%s: token %u collides with too many others", tokens_key, token);
    if (*slot == 0) *slot = slot_value(hash, token);
    return RS_OK;
}

int32_t rs_vocab_find(const rs_vocab *vocab, const char *text, size_t bytes) {
    if (bytes > vocab->longest) return -1;
    const uint32_t *slot = find_slot(vocab, hash_text(text, bytes), text, bytes);
    return slot == NULL || *slot == 0 ? -1 : (int32_t)slot_token(*slot);
}

rs_status rs_vocab_add_user_defined(rs_vocab *vocab, rs_error *error) {
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        if (vocab->kind[i] == RS_TOKEN_USER_DEFINED) RS_TRY(add_to_index(vocab, i, error));
    return RS_OK;
}

/* --------------------------------------------------------------------------------------------- reading -- */

/* The bytes of all pieces together: the offsets must fit. */
static rs_status measure(rs_gguf_array tokens, size_t *bytes, rs_error *error) {
    *bytes = 0;
    for (uint32_t i = 0; tokens.count > 0; i++) {
        const rs_string piece = rs_gguf_array_next_string(&tokens);
        if (piece.bytes > RS_MAX_PIECE_BYTES)
            return rs_fail(error, RS_BAD_FILE, "%s: token %u has %zu bytes, more than %d", tokens_key, i,
                           piece.bytes, RS_MAX_PIECE_BYTES);
        if (!rs_add_size(*bytes, piece.bytes, bytes) || *bytes > UINT32_MAX)
            return rs_fail(error, RS_BAD_FILE, "%s: more than 4 GiB of text", tokens_key);
    }
    return RS_OK;
}

/* One block for all arrays. */
static rs_status allocate(rs_vocab *vocab, size_t text_bytes, rs_error *error) {
    const size_t n = vocab->n_tokens;
    size_t n_slots = 2;
    while (n_slots < 2 * n) n_slots *= 2;
    const size_t slot_bytes = n_slots * sizeof *vocab->slots;
    const size_t begin_bytes = (n + 1) * sizeof *vocab->begin;
    size_t bytes;
    if (rs_add_size(slot_bytes + begin_bytes + n, text_bytes, &bytes)) vocab->memory = calloc(bytes, 1);
    if (vocab->memory == NULL)
        return rs_fail(error, RS_NO_MEMORY, "no memory for a vocabulary of %u tokens", vocab->n_tokens);
    vocab->slots = vocab->memory;
    vocab->slot_mask = n_slots - 1;
    vocab->begin = vocab->slots + n_slots;
    vocab->kind = (unsigned char *)(vocab->begin + n + 1);
    vocab->text = (char *)(vocab->kind + n);
    return RS_OK;
}

/* Writes what the piece stands for and says whether plain text may find it. */
static bool read_piece(rs_vocab *vocab, uint32_t token, rs_string piece, int byte, rs_spelling_fn spelling) {
    char *text = vocab->text + vocab->begin[token];
    const rs_token_kind kind = vocab->kind[token];
    size_t bytes = piece.bytes;
    bool plain = false;
    if (kind == RS_TOKEN_BYTE) {
        *text = (char)byte;
        bytes = 1;
        if (vocab->byte[byte] < 0) vocab->byte[byte] = (int32_t)token;
    } else {
        plain = kind != RS_TOKEN_CONTROL && kind != RS_TOKEN_UNKNOWN && kind != RS_TOKEN_USER_DEFINED &&
                spelling(piece.data, piece.bytes, text, &bytes);
        if (!plain) memcpy(text, piece.data, bytes = piece.bytes);
    }
    vocab->begin[token + 1] = vocab->begin[token] + (uint32_t)bytes;
    if (bytes > vocab->longest) vocab->longest = bytes;
    return plain;
}

static rs_status read_tokens(rs_vocab *vocab, rs_gguf_array tokens, const rs_gguf_array *kinds,
                             rs_spelling_fn spelling, rs_error *error) {
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        const rs_string piece = rs_gguf_array_next_string(&tokens);
        const int32_t kind = rs_gguf_array_i32(kinds, i);
        if (kind < RS_TOKEN_UNDEFINED || kind > RS_TOKEN_BYTE)
            return rs_fail(error, RS_BAD_FILE, "%s: token %u is of type %d, not 0 to %d", kinds_key, i, kind,
                           RS_TOKEN_BYTE);
        vocab->kind[i] = is_chat_marker(piece) ? RS_TOKEN_CONTROL : (unsigned char)kind;
        const int byte = parse_byte_token(piece);
        if (vocab->kind[i] == RS_TOKEN_BYTE && byte < 0)
            return rs_fail(error, RS_BAD_FILE, "%s: byte token %u is not spelled <0x00> to <0xFF>",
                           tokens_key, i);
        if (read_piece(vocab, i, piece, byte, spelling)) RS_TRY(add_to_index(vocab, i, error));
    }
    return RS_OK;
}

rs_status rs_vocab_open(const rs_gguf *gguf, uint64_t n_rows, rs_spelling_fn spelling, rs_vocab *vocab,
                        rs_error *error) {
    rs_gguf_array tokens, kinds;
    *vocab = (rs_vocab){0};
    memset(vocab->byte, -1, sizeof vocab->byte);
    RS_TRY(rs_gguf_get_array(gguf, tokens_key, RS_GGUF_STRING, &tokens, error));
    RS_TRY(rs_gguf_get_array(gguf, kinds_key, RS_GGUF_I32, &kinds, error));
    if (tokens.count == 0 || tokens.count > RS_MAX_VOCAB)
        return rs_fail(error, RS_BAD_FILE, "%s: %llu tokens, not 1 to %d", tokens_key,
                       (unsigned long long)tokens.count, RS_MAX_VOCAB);
    if (tokens.count != n_rows)
        return rs_fail(error, RS_BAD_FILE, "%s: %llu tokens for %llu rows of embeddings", tokens_key,
                       (unsigned long long)tokens.count, (unsigned long long)n_rows);
    if (kinds.count != tokens.count)
        return rs_fail(error, RS_BAD_FILE, "%s: %llu types for %llu tokens", kinds_key,
                       (unsigned long long)kinds.count, (unsigned long long)tokens.count);

    size_t text_bytes;
    RS_TRY(measure(tokens, &text_bytes, error));
    vocab->n_tokens = (uint32_t)tokens.count;
    rs_status status = allocate(vocab, text_bytes, error);
    if (status == RS_OK) status = read_tokens(vocab, tokens, &kinds, spelling, error);
    if (status != RS_OK) rs_vocab_close(vocab);
    return status;
}

void rs_vocab_close(rs_vocab *vocab) {
    free(vocab->memory);
    *vocab = (rs_vocab){0};
}
