#include "tests/bench/bench_json.h"

#include <inttypes.h>

static void write_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char byte = (unsigned char)*p;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

static void begin(struct bench_json *json, const char *key)
{
    if (json->comma)
        fputs(", ", json->out);
    json->comma = true;
    if (key != NULL) {
        write_text(json->out, key);
        fputs(": ", json->out);
    }
}

void bench_json_open(struct bench_json *json, const char *key, char bracket)
{
    begin(json, key);
    fputc(bracket, json->out);
    json->comma = false;
}

void bench_json_close(struct bench_json *json, char bracket)
{
    fputc(bracket, json->out);
    json->comma = true;
}

void bench_json_u64(struct bench_json *json, const char *key, uint64_t value)
{
    begin(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void bench_json_f64(struct bench_json *json, const char *key, double value)
{
    begin(json, key);
    fprintf(json->out, "%.3f", value);
}

void bench_json_bool(struct bench_json *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->out);
}

void bench_json_text(struct bench_json *json, const char *key, const char *text)
{
    begin(json, key);
    write_text(json->out, text);
}
