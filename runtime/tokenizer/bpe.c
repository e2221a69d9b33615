/* Byte-level BPE: every byte is a token to begin with, and merges of two tokens apply by rank. */
#include <stdlib.h>
#include <string.h>

#include "runtime/status.h"
#include "runtime/tokenizer/internal.h"

enum {
    RANK_BITS = 22, /* of a slot; the bits above are the hash's */
    MAX_MERGES = (1 << RANK_BITS) - 1,
    MAX_PROBES = 1024, /* as in vocab.c: refuses merges that were made to collide */
};

static const char merges_key[] = "tokenizer.ggml.merges";

/* ------------------------------------------------------------------------------------------- spelling -- */

/* The byte that a character stands for; -1: none. Bytes that Latin-1 can print stand for themselves, the
 * others follow in order from U+0100 on. */
static int byte_of_character(unsigned c) {
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) return (int)c;
    if (c >= 0x100 && c <= 0x120) return (int)(c - 0x100);
    if (c >= 0x121 && c <= 0x142) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

bool rs_bpe_spelling(const char *piece, size_t bytes, char *text, size_t *text_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned c = (unsigned char)piece[i];
        if (c >= 0x80) { /* all characters that stand for a byte have one or two bytes in UTF-8 */
            if (c < 0xc2 || c > 0xdf || i + 1 == bytes || ((unsigned char)piece[i + 1] & 0xc0) != 0x80)
                return false;
            c = (c & 0x1f) << 6 | ((unsigned char)piece[++i] & 0x3f);
        }
        const int byte = byte_of_character(c);
        if (byte < 0) return false;
        text[n++] = (char)byte;
    }
    *text_bytes = n;
    return true;
}

/* --------------------------------------------------------------------------------------------- merges -- */

static uint64_t hash_pair(int32_t left, int32_t right) {
    const uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15;
    return hash ^ hash >> 32;
}

/* What the slot of `rank` holds, for a pair with this hash. */
static uint32_t slot_value(uint64_t hash, uint32_t rank) {
    return (uint32_t)(hash >> 32 >> RANK_BITS << RANK_BITS) | (rank + 1);
}

static uint32_t slot_rank(uint32_t slot) {
    return (slot & ((1u << RANK_BITS) - 1)) - 1;
}

/* The slot of this pair, or the empty one where it belongs; NULL after too many probes. */
static uint32_t *find_slot(const rs_bpe *bpe, uint64_t hash, int32_t left, int32_t right) {
    for (uint64_t probe = 0; probe < MAX_PROBES; probe++) {
        uint32_t *slot = &bpe->slots[(hash + probe) & bpe->slot_mask];
        if (*slot == 0) return slot;
        if (*slot != slot_value(hash, slot_rank(*slot))) continue;
        const rs_bpe_merge *merge = &bpe->merges[slot_rank(*slot)];
        if (merge->left == left && merge->right == right) return slot;
    }
    return NULL;
}

/* Of equal pairs the first counts. */
static rs_status add_to_index(rs_bpe *bpe, uint32_t rank, rs_error *error) {
    const rs_bpe_merge *merge = &bpe->merges[rank];
    const uint64_t hash = hash_pair(merge->left, merge->right);
    uint32_t *slot = find_slot(bpe, hash, merge->left, merge->right);
    if (slot == NULL)
        return rs_fail(error, RS_BAD_FILE, "%s: merge %u collides with too many others", merges_key, rank);
    if (*slot == 0) *slot = slot_value(hash, rank);
    return RS_OK;
}

/* `text` has room for two pieces. */
static rs_status read_merge(rs_bpe *bpe, uint32_t rank, rs_string spelled, char *text, rs_error *error) {
    char shown[RS_SHOWN_BYTES];
    const char *space = spelled.bytes > 2 ? memchr(spelled.data + 1, ' ', spelled.bytes - 2) : NULL;
    if (space == NULL || spelled.bytes > 2 * RS_MAX_PIECE_BYTES + 1)
        return rs_fail(error, RS_BAD_FILE, "%s: merge %u '%s' is not two pieces and a space between",
                       merges_key, rank, rs_shown(spelled, shown));
    const size_t left_spelled = (size_t)(space - spelled.data),
                 right_spelled = spelled.bytes - left_spelled - 1;
    size_t left_bytes, right_bytes;
    rs_bpe_merge merge = {-1, -1, -1};
    if (rs_bpe_spelling(spelled.data, left_spelled, text, &left_bytes) &&
        rs_bpe_spelling(space + 1, right_spelled, text + left_bytes, &right_bytes)) {
        merge.left = rs_vocab_find(bpe->vocab, text, left_bytes);
        merge.right = rs_vocab_find(bpe->vocab, text + left_bytes, right_bytes);
        merge.token = rs_vocab_find(bpe->vocab, text, left_bytes + right_bytes);
    }
    if (merge.left < 0 || merge.right < 0 || merge.token < 0)
        return rs_fail(error, RS_BAD_FILE,
                       "%s: merge %u '%s' names or makes a piece that is not in the vocabulary", merges_key,
                       rank, rs_shown(spelled, shown));
    bpe->merges[rank] = merge;
    return RS_OK;
}

static rs_status read_merges(const rs_gguf *gguf, rs_bpe *bpe, rs_error *error) {
    rs_gguf_array merges;
    RS_TRY(rs_gguf_get_array(gguf, merges_key, RS_GGUF_STRING, &merges, error));
    if (merges.count > MAX_MERGES)
        return rs_fail(error, RS_BAD_FILE, "%s: %llu merges, more than %d", merges_key,
                       (unsigned long long)merges.count, MAX_MERGES);
    const uint32_t n = (uint32_t)merges.count;
    size_t n_slots = 2;
    while (n_slots < 2 * (size_t)n) n_slots *= 2;
    bpe->slot_mask = n_slots - 1;
    bpe->slots = calloc(n_slots, sizeof *bpe->slots);
    bpe->merges = malloc(((size_t)n + 1) * sizeof *bpe->merges);
    char *text = malloc(2 * RS_MAX_PIECE_BYTES);
    rs_status status = RS_OK;
    if (bpe->slots == NULL || bpe->merges == NULL || text == NULL)
        status = rs_fail(error, RS_NO_MEMORY, "no memory for %u merges", n);
    for (uint32_t rank = 0; rank < n && status == RS_OK; rank++) {
        status = read_merge(bpe, rank, rs_gguf_array_next_string(&merges), text, error);
        if (status == RS_OK) status = add_to_index(bpe, rank, error);
    }
    free(text);
    return status;
}

/* ------------------------------------------------------------------------------- opening and encoding -- */

/* Files of a time before there was the key are of several kinds, those of Llama 3 among them. */
static rs_status read_pre_name(const rs_gguf *gguf, rs_string *name, rs_error *error) {
    static const char key[] = "tokenizer.ggml.pre";
    if (rs_gguf_has(gguf, key)) return rs_gguf_string(gguf, key, name, error);
    return rs_fail(error, RS_UNSUPPORTED, "key %s is missing, and with it how text is cut into words", key);
}

rs_status rs_bpe_open(const rs_gguf *gguf, rs_vocab *vocab, const char *pre_name, rs_bpe *bpe,
                      rs_error *error) {
    *bpe = (rs_bpe){.vocab = vocab};
    rs_string name = {pre_name, pre_name != NULL ? strlen(pre_name) : 0};
    if (pre_name == NULL) RS_TRY(read_pre_name(gguf, &name, error));

    /* A merge may go by way of a token that somebody declared user-defined later on. */
    RS_TRY(rs_vocab_add_user_defined(vocab, error));
    for (unsigned b = 0; b < 256; b++) vocab->byte[b] = rs_vocab_find(vocab, &(char){(char)b}, 1);
    rs_status status = rs_pretokenizer_open(name, &bpe->pre, error);
    if (status == RS_OK) status = read_merges(gguf, bpe, error);
    if (status != RS_OK) rs_bpe_close(bpe);
    return status;
}

void rs_bpe_close(rs_bpe *bpe) {
    free(bpe->merges);
    free(bpe->slots);
    rs_pretokenizer_close(bpe->pre);
    *bpe = (rs_bpe){0};
}

static bool merge_pair(const void *model, const char *text, const rs_symbol *left, const rs_symbol *right,
                       uint32_t *order, int32_t *token) {
    (void)text;
    const rs_bpe *bpe = model;
    const uint32_t *slot = find_slot(bpe, hash_pair(left->token, right->token), left->token, right->token);
    if (slot == NULL || *slot == 0) return false;
    *order = slot_rank(*slot);
    *token = bpe->merges[*order].token;
    return true;
}

static rs_status encode_piece(const rs_bpe *bpe, rs_encoding *e, rs_string piece, rs_error *error) {
    if (rs_pretokenizer_takes_whole(bpe->pre)) {
        const int32_t token = rs_vocab_find(bpe->vocab, piece.data, piece.bytes);
        if (token >= 0) {
            e->tokens[e->count++] = token;
            return RS_OK;
        }
    }
    RS_TRY(rs_merger_reserve(&e->merger, piece.bytes, error));
    rs_symbol *symbols = e->merger.symbols;
    for (uint32_t i = 0; i < piece.bytes; i++) {
        const int32_t token = bpe->vocab->byte[(unsigned char)piece.data[i]];
        if (token < 0) return rs_no_token_for_byte((unsigned char)piece.data[i], error);
        symbols[i] = (rs_symbol){1, i - 1, token};
    }
    rs_merge(&e->merger, piece.data, piece.bytes, merge_pair, bpe);
    for (uint32_t i = 0; i < piece.bytes; i += symbols[i].bytes) e->tokens[e->count++] = symbols[i].token;
    return RS_OK;
}

rs_status rs_bpe_encode(const rs_bpe *bpe, rs_encoding *e, const char *text, size_t bytes, rs_error *error) {
    if (e->pretokens == NULL) RS_TRY(rs_pretokens_open(bpe->pre, &e->pretokens, error));
    rs_pretokens_start(e->pretokens, text, bytes);
    for (;;) {
        rs_string piece;
        RS_TRY(rs_pretokens_next(e->pretokens, &piece, error));
        if (piece.bytes == 0) return RS_OK;
        RS_TRY(encode_piece(bpe, e, piece, error));
    }
}
