#include "ctl_words.h"

#include <string.h>

/* The word at *at, which moves behind it; false: the alternative ends. */
static bool next_word(const char **at, struct ctl_word *ret_word)
{
    *at += strspn(*at, " [");
    const size_t bytes = strcspn(*at, " []|:");
    if (bytes == 0)
        return false;
    *ret_word = (struct ctl_word){.text = *at, .bytes = bytes};
    *at += bytes;
    *at += strcspn(*at, " |");
    return true;
}

static bool is(const struct ctl_word *word, const char *text)
{
    return strlen(text) == word->bytes && memcmp(text, word->text, word->bytes) == 0;
}

static enum ctl_word_kind kind_of(const struct ctl_word *word)
{
    if (word->text[0] < 'A' || word->text[0] > 'Z')
        return CTL_WORD_ITSELF;
    return is(word, "STAGE")       ? CTL_WORD_STAGE
           : is(word, "COMMAND")   ? CTL_WORD_COMMAND
           : is(word, "FILE")      ? CTL_WORD_FILE
           : is(word, "DIRECTORY") ? CTL_WORD_DIRECTORY
                                   : CTL_WORD_OTHER;
}

bool ctl_word_at(const char *words, unsigned position, unsigned index, struct ctl_word *ret_word)
{
    for (const char *at = words; *at != '\0';) {
        struct ctl_word word;
        bool there = true;
        for (unsigned i = 0; there && i <= position; i++)
            there = next_word(&at, &word);
        if (there && index-- == 0) {
            *ret_word = word;
            ret_word->kind = kind_of(&word);
            return true;
        }
        at += strcspn(at, "|");
        at += *at == '|' ? 1 : 0;
    }
    return false;
}

unsigned ctl_word_positions(const char *words)
{
    struct ctl_word word;
    unsigned count = 0;
    while (ctl_word_at(words, count, 0, &word))
        count++;
    return count;
}
