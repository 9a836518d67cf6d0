/* CipherMQ from C, with libcurl.
 *
 *   cc -O2 -o client client.c -lcurl
 *   ./client publish TOPIC TEXT          prints the reply
 *   ./client subscribe TOPIC [SINCE]     everything, one JSON a line; SINCE: earliest, latest, or the last id that you have */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define TRY_S      60
#define LINE_BYTES (2u << 20) /* more than ingest.message_bytes_max */

/* Server-Sent Events: lines "name: value", an empty line ends an event. Every event has the id to go on behind. */
struct reader {
    char *line, *data;
    size_t line_bytes;
    char id[64], last_id[64];
    bool is_gap, refused;
    CURL *curl;
};

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

static struct curl_slist *with_token(struct curl_slist *headers)
{
    char text[256];
    if (setting("CIPHERMQ_TOKEN", NULL) == NULL)
        return headers;
    (void)snprintf(text, sizeof text, "Authorization: Bearer %s", setting("CIPHERMQ_TOKEN", ""));
    return curl_slist_append(headers, text);
}

static void wait_s(long seconds)
{
    (void)nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
}

/* The key makes a retry safe: whatever became of the first try, the message is there once. */
static int publish(CURL *curl, const char *topic, const char *text)
{
    char url[1024], header[64];
    unsigned long long key[2];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return 1;
    (void)snprintf(url, sizeof url, "%s/v1/topics/%s", setting("CIPHERMQ_URL", "http://127.0.0.1:3000"),
                   topic);
    (void)snprintf(header, sizeof header, "Idempotency-Key: %016llx%016llx", key[0], key[1]);
    struct curl_slist *headers = curl_slist_append(with_token(NULL), "Content-Type: text/plain");
    headers = curl_slist_append(headers, header);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    const time_t deadline = time(NULL) + TRY_S;
    long status = 0;
    char *reply = NULL;
    for (;;) {
        size_t reply_bytes;
        curl_off_t retry_s = 0;
        free(reply);
        FILE *body = open_memstream(&reply, &reply_bytes);
        if (body == NULL)
            return 1;
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
        status = 0;
        if (curl_easy_perform(curl) == CURLE_OK)
            (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        (void)fclose(body);
        if ((status != 0 && status != 429 && status != 500 && status != 503) || time(NULL) > deadline)
            break;
        (void)curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_s);
        wait_s(retry_s > 0 ? (long)retry_s : 1);
    }
    (void)fprintf(status == 200 ? stdout : stderr, "%s\n", reply);
    free(reply);
    curl_slist_free_all(headers);
    return status == 200 ? 0 : 1;
}

static void take_line(struct reader *reader)
{
    const char *line = reader->line;
    if (line[0] == '\0') {
        if (reader->data[0] != '\0')
            (void)fprintf(reader->is_gap ? stderr : stdout, "%s\n", reader->data);
        if (reader->id[0] != '\0')
            memcpy(reader->last_id, reader->id, sizeof reader->last_id);
        reader->data[0] = '\0';
        reader->is_gap = false;
    } else if (strncmp(line, "data: ", 6) == 0) {
        memcpy(reader->data, line + 6, reader->line_bytes - 5);
    } else if (strncmp(line, "id: ", 4) == 0) {
        (void)snprintf(reader->id, sizeof reader->id, "%s", line + 4);
    } else if (strcmp(line, "event: gap") == 0) {
        reader->is_gap = true;
    }
}

static size_t take(char *bytes, size_t size, size_t count, void *user)
{
    struct reader *reader = user;
    long status = 0;
    (void)curl_easy_getinfo(reader->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        reader->refused = status < 500;
        (void)fwrite(bytes, size, count, stderr);
        return size * count;
    }
    for (size_t i = 0; i < size * count; i++) {
        if (bytes[i] != '\n' && reader->line_bytes < LINE_BYTES - 1) {
            reader->line[reader->line_bytes++] = bytes[i];
        } else if (bytes[i] == '\n') {
            reader->line[reader->line_bytes] = '\0';
            take_line(reader);
            reader->line_bytes = 0;
        }
    }
    return size * count;
}

static int subscribe(CURL *curl, const char *topic, const char *since)
{
    char url[1024], header[128];
    struct reader reader = {.line = malloc(LINE_BYTES), .data = calloc(1, LINE_BYTES), .curl = curl};
    if (reader.line == NULL || reader.data == NULL)
        return 1;
    (void)snprintf(url, sizeof url, "%s/t/%s/sse?since=%s",
                   setting("CIPHERMQ_READ_URL", "http://127.0.0.1:8080"), topic, since);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reader);
    while (!reader.refused) {
        struct curl_slist *headers = with_token(NULL);
        (void)snprintf(header, sizeof header, "Last-Event-ID: %s", reader.last_id);
        if (reader.last_id[0] != '\0')
            headers = curl_slist_append(headers, header); /* wins over since */
        reader.line_bytes = 0;
        reader.data[0] = reader.id[0] = '\0';
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        (void)curl_easy_perform(curl); /* until the broker restarts, or the network is away */
        curl_slist_free_all(headers);
        if (!reader.refused)
            wait_s(1);
    }
    free(reader.line);
    free(reader.data);
    return 1;
}

int main(int argc, char **argv)
{
    CURL *curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
    int status = 64;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (curl == NULL)
        status = 1;
    else if (argc == 4 && strcmp(argv[1], "publish") == 0)
        status = publish(curl, argv[2], argv[3]);
    else if ((argc == 3 || argc == 4) && strcmp(argv[1], "subscribe") == 0)
        status = subscribe(curl, argv[2], argc == 4 ? argv[3] : "earliest");
    else
        (void)fprintf(stderr, "usage: %s publish TOPIC TEXT | subscribe TOPIC [SINCE]\n", argv[0]);
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    return status;
}
