/* Strict UTF-8. */
#ifndef RASURE_RUNTIME_TOKENIZER_UTF8_H
#define RASURE_RUNTIME_TOKENIZER_UTF8_H

#include <stddef.h>

/* Bytes of the character that `text` begins with: 1 to 4; 0 if it is none (too long a form, a surrogate, cut
 * off). */
static inline size_t rs_utf8_character(const char *text, size_t bytes) {
    const unsigned char *s = (const unsigned char *)text;
    if (bytes == 0) return 0;
    if (s[0] < 0x80) return 1;
    const size_t n = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > bytes) return 0;
    for (size_t i = 1; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

#endif
