#include "common/shm/cmq_writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void cmq_writer_put(struct cmq_writer *writer, const char *fmt, ...)
{
    char piece[CMQ_WRITER_PUT_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int bytes = vsnprintf(piece, sizeof piece, fmt, args);
    va_end(args);
    cmq_assert(bytes >= 0 && (size_t)bytes < sizeof piece);
    if (writer->err == CMQ_OK)
        writer->err = cmq_buf_append(writer->text, piece, (size_t)bytes);
}

void cmq_writer_put_string(struct cmq_writer *writer, const char *text)
{
    cmq_writer_put(writer, "\"");
    while (*text != '\0' && writer->err == CMQ_OK) {
        const size_t plain = strcspn(text, "\"\\");
        writer->err = cmq_buf_append(writer->text, text, plain);
        text += plain;
        if (*text != '\0')
            cmq_writer_put(writer, "\\%c", *text++);
    }
    cmq_writer_put(writer, "\"");
}
