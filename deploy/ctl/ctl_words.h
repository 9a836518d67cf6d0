/*
 * ctl_words: what a command's `words` and an option's argument say can stand there (ctl_commands.h has the rules).
 * Ownership: texts are borrowed from the table.
 * Units: positions count from 0.
 * Errors: none.
 * Callers: the only thread.
 */
#ifndef CTL_WORDS_H
#define CTL_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum ctl_word_kind {
    CTL_WORD_ITSELF,
    CTL_WORD_STAGE,
    CTL_WORD_COMMAND,
    CTL_WORD_FILE,
    CTL_WORD_DIRECTORY,
    CTL_WORD_OTHER
};

struct ctl_word {
    enum ctl_word_kind kind;
    const char *text; /* not ended */
    size_t bytes;
};

/* Alternative number `index` of those that have a word at that position; false: there are no more. */
bool ctl_word_at(const char *words, unsigned position, unsigned index, struct ctl_word *ret_word);
/* How many positions the longest alternative has. */
unsigned ctl_word_positions(const char *words);

#endif
