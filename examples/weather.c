/* Four years of Seattle weather, asked eight questions by eight skills; then one that fails and one that never ends.
 *
 * weather FOLDER [DATABASE]: the folder of the examples; without a database, one that is removed at the end. */

#define _DEFAULT_SOURCE

#include <skillcache.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS "300"
#define COLUMNS 6

static const char *const SKILLS[] = {"degree_days",   "rain_streaks", "anomaly_days", "trend",
                                     "monthly_table", "text_summary", "persistence",  "frost_season"};
static const int SKILL_COUNT = sizeof SKILLS / sizeof *SKILLS;

/* The columns of the records; these two hold text, the others numbers. */
static const char *const NAMES[COLUMNS] = {"date", "precipitation", "temp_max", "temp_min", "wind", "weather"};
static const int DATE = 0, WEATHER = 5;

static const char *examples;

/* Where the database is if none was asked for. */
static char temporary[4000];

static void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("weather: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* Takes the place of the error, because arguments are evaluated in any order: the call may come after its value. */
static void check(skc_status status, skc_error *const *error) {
    if (status != SKC_OK) give_up("%s", skc_error_message(*error).ptr);
}

/* A text that grows. */
typedef struct {
    char *bytes;
    size_t length, capacity;
} text;

static void append(text *to, const char *bytes, size_t length) {
    if (to->length + length + 1 > to->capacity) {
        to->capacity = 2 * (to->length + length + 1);
        to->bytes = realloc(to->bytes, to->capacity);
        if (!to->bytes) give_up("out of memory");
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    to->bytes[to->length] = '\0';
}

static void append_text(text *to, const char *bytes) { append(to, bytes, strlen(bytes)); }

/* A JSON string: quotes, backslashes and control characters are escaped. */
static void append_string(text *to, const char *string) {
    append_text(to, "\"");
    for (; *string; string++) {
        char escape[8];
        if ((unsigned char)*string >= 0x20 && *string != '"' && *string != '\\')
            append(to, string, 1);
        else
            append(to, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(unsigned char)*string));
    }
    append_text(to, "\"");
}

static void remove_temporary(void) {
    static const char *const FILES[] = {"skills.db", "skills.db-wal", "skills.db-shm"};
    char path[4096];
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", temporary, FILES[i]);
        remove(path);
    }
    if (rmdir(temporary) != 0) fprintf(stderr, "weather: %s is left behind\n", temporary);
}

static void make_temporary(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(temporary, sizeof temporary, "%s/weather-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(temporary)) give_up("no temporary folder %s", temporary);
    atexit(remove_temporary);
}

static text read_file(const char *folder, const char *name, const char *ending) {
    char path[4096], block[65536];
    snprintf(path, sizeof path, "%s/%s/%s%s", examples, folder, name, ending);
    FILE *file = fopen(path, "r");
    if (!file) give_up("%s cannot be read", path);
    text content = {NULL, 0, 0};
    append_text(&content, "");
    for (size_t length; (length = fread(block, 1, sizeof block, file)) > 0;)
        append(&content, block, length);
    fclose(file);
    return content;
}

/* Run-time data: {"inputs": {"date": [...], ...}}. Numbers are JSON numbers already. Prints what it read. */
static text read_columns(void) {
    text file = read_file("data", "seattle-weather", ".csv"), columns[COLUMNS] = {{NULL, 0, 0}}, data = {NULL, 0, 0};
    char *rest = file.bytes, first[16] = "", last[16] = "";
    int days = 0;
    strsep(&rest, "\n"); /* the names of the columns */
    for (char *row; (row = strsep(&rest, "\n")) != NULL && *row; days++) {
        for (int column = 0; column < COLUMNS; column++) {
            const char *field = strsep(&row, ",\r");
            if (!field) give_up("a day has fewer than %d fields", COLUMNS);
            if (days) append_text(&columns[column], ",");
            if (column == DATE) snprintf(days ? last : first, sizeof first, "%s", field);
            if (column == DATE || column == WEATHER)
                append_string(&columns[column], field);
            else
                append_text(&columns[column], field);
        }
    }
    append_text(&data, "{\"inputs\":{");
    for (int column = 0; column < COLUMNS; column++) {
        if (column) append_text(&data, ",");
        append_string(&data, NAMES[column]);
        append_text(&data, ":[");
        append(&data, columns[column].bytes, columns[column].length);
        append_text(&data, "]");
        free(columns[column].bytes);
    }
    append_text(&data, "}}");
    free(file.bytes);
    printf("Seattle, %d days from %s to %s, asked from C\n", days, first, last);
    fflush(stdout); /* before progress, which goes to stderr */
    return data;
}

/* A reader for the library's JSON, which is valid and has no white space. A host that has a JSON library uses that. */

static const char *end_of_string(const char *json) {
    for (json++; *json && *json != '"'; json++)
        if (*json == '\\') json++;
    return json;
}

/* The comma or bracket after a value. */
static const char *end_of_value(const char *json) {
    for (int depth = 0; *json; json++) {
        if (*json == '"')
            json = end_of_string(json);
        else if (*json == '{' || *json == '[')
            depth++;
        else if (depth == 0 && (*json == ',' || *json == '}' || *json == ']'))
            break;
        else if (*json == '}' || *json == ']')
            depth--;
    }
    return json;
}

/* The value of a member of an object. */
static const char *member(const char *object, const char *name) {
    size_t length = strlen(name);
    for (const char *at = object; (*at == '{' || *at == ',') && at[1] == '"';) {
        const char *key = at + 2, *end = end_of_string(at + 1), *value = end + 2;
        if ((size_t)(end - key) == length && memcmp(key, name, length) == 0) return value;
        at = end_of_value(value);
    }
    give_up("no %s in the library's answer", name);
    return object;
}

static const char *find(const char *json, const char *const *names) {
    for (; *names; names++)
        json = member(json, *names);
    return json;
}

#define FIND(json, ...) find(json, (const char *const[]){__VA_ARGS__, NULL})
#define NUMBER(json, ...) strtod(FIND(json, __VA_ARGS__), NULL)

/* The text of a string, cut to the room there is. Only control characters are written as \uXXXX. */
static const char *string_of(const char *json, char *out, size_t size) {
    static const char NAMES_OF[] = "nrtbf", MEANT[] = "\n\r\t\b\f";
    size_t length = 0;
    for (json++; *json && *json != '"' && length + 1 < size; json++) {
        char byte = *json;
        if (byte == '\\') {
            byte = *++json;
            const char *named = strchr(NAMES_OF, byte);
            if (byte == 'u') {
                byte = (char)strtol((char[]){json[3], json[4], '\0'}, NULL, 16);
                json += 4;
            } else if (named) {
                byte = MEANT[named - NAMES_OF];
            }
        }
        out[length++] = byte;
    }
    out[length] = '\0';
    return out;
}

static const char *human(uint64_t microseconds, char *out, size_t size) {
    if (microseconds < 1000)
        snprintf(out, size, "%" PRIu64 " us", microseconds);
    else
        snprintf(out, size, "%.1f ms", (double)microseconds / 1000);
    return out;
}

static uint32_t put(skc_library *library, const char *name) {
    text code = read_file("skills", name, ".py");
    skc_skill *skill = skc_skill_new(name, code.bytes, code.length);
    skc_error *error = NULL;
    uint32_t version = 0;
    /* The first line of the docstring says what the skill is for. */
    const char *docstring = strstr(code.bytes, "\"\"\"");
    if (!docstring) give_up("%s does not say what it is for", name);
    text description = {NULL, 0, 0};
    append(&description, docstring + 3, strcspn(docstring + 3, "\"\n"));
    check(skc_skill_set(skill, "description", description.bytes, &error), &error);
    check(skc_skill_set(skill, "category", "climate", &error), &error);
    check(skc_skill_set(skill, "tags", "[\"weather\"]", &error), &error);
    check(skc_library_put(library, skill, &version, &error), &error);
    skc_skill_free(skill);
    free(description.bytes);
    free(code.bytes);
    return version;
}

static skc_result *run(skc_library *library, const char *name, const text *data, const char *options, int32_t outcome) {
    skc_result *result = NULL;
    skc_error *error = NULL;
    check(skc_library_run(library, name, data->bytes, data->length, options, &result, &error), &error);
    if (skc_result_outcome(result) != outcome)
        give_up("%s ended as %s: %s", name, skc_outcome_name(skc_result_outcome(result)), skc_result_error(result).ptr);
    return result;
}

static void show_progress(int step, const char *name, uint32_t version) {
    bool live = isatty(STDERR_FILENO);
    fprintf(stderr, "%s[%d/%d] %s: version %" PRIu32 ", running%s", live ? "\r\x1b[K" : "", step, SKILL_COUNT, name,
            version, live ? "" : "\n");
}

static void run_all(skc_library *library, const text *data) {
    skc_result *firsts[sizeof SKILLS / sizeof *SKILLS], *repeats[sizeof SKILLS / sizeof *SKILLS];
    char answers[sizeof SKILLS / sizeof *SKILLS][128];
    int width = 0;
    for (int i = 0; i < SKILL_COUNT; i++) {
        show_progress(i + 1, SKILLS[i], put(library, SKILLS[i]));
        firsts[i] = run(library, SKILLS[i], data, NULL, SKC_OUTCOME_SUCCESS);
        repeats[i] = run(library, SKILLS[i], data, NULL, SKC_OUTCOME_SUCCESS);
        if (!skc_result_is_cached(repeats[i]) ||
            strcmp(skc_result_value(firsts[i]).ptr, skc_result_value(repeats[i]).ptr) != 0)
            give_up("%s was not answered from memory", SKILLS[i]);
        string_of(FIND(skc_result_value(firsts[i]).ptr, "headline"), answers[i], sizeof answers[i]);
        if ((int)strlen(answers[i]) + 2 > width) width = (int)strlen(answers[i]) + 2;
    }
    if (isatty(STDERR_FILENO)) fputs("\r\x1b[K", stderr);
    printf("\n%-14s%-9s%-*s%10s%10s\n", "skill", "outcome", width, "answer", "first run", "repeat");
    for (int i = 0; i < SKILL_COUNT; i++) {
        char first[32], repeat[32];
        printf("%-14s%-9s%-*s%10s%10s\n", SKILLS[i], skc_outcome_name(skc_result_outcome(firsts[i])), width, answers[i],
               human(skc_result_duration_us(firsts[i]), first, sizeof first),
               human(skc_result_duration_us(repeats[i]), repeat, sizeof repeat));
        skc_result_free(firsts[i]);
        skc_result_free(repeats[i]);
    }
}

static void fail(skc_library *library, const text *data) {
    put(library, "broken");
    skc_result *result = run(library, "broken", data, NULL, SKC_OUTCOME_ERROR);
    skc_view view;
    skc_result_view(result, &view, sizeof view);
    char type[64], message[256];
    int line = (int)NUMBER(view.error_json.ptr, "line");
    printf("\nbroken fails at its line %d, %s: %s\n", line,
           string_of(FIND(view.error_json.ptr, "type"), type, sizeof type),
           string_of(FIND(view.error_json.ptr, "message"), message, sizeof message));
    skc_skill *skill = NULL;
    skc_error *error = NULL;
    check(skc_library_get(library, "broken", 0, &skill, &error), &error);
    const char *source = skc_skill_code(skill).ptr;
    for (int i = 1; i < line; i++)
        source = strchr(source, '\n') + 1;
    printf("%.*s\n", (int)strcspn(source, "\n"), source);
    skc_skill_free(skill);
    skc_result_free(result);
}

static void time_out(skc_library *library, const text *data) {
    char time[32];
    put(library, "endless");
    skc_result *result = run(library, "endless", data, "{\"timeout_ms\": " TIMEOUT_MS "}", SKC_OUTCOME_TIMEOUT);
    printf("\nendless never ends; it was stopped after %s, outcome %s\n",
           human(skc_result_duration_us(result), time, sizeof time), skc_outcome_name(skc_result_outcome(result)));
    skc_result_free(result);
}

static void show_statistics(skc_library *library) {
    skc_blob *blob = NULL;
    skc_error *error = NULL;
    check(skc_library_stats(library, &blob, &error), &error);
    const char *stats = skc_blob_str(blob).ptr, *results = FIND(stats, "caches", "execution"), *comma = "";
    char executed[32], cached[32], mode[32], level[32];
    printf("\nstatistics\n  runs      %.0f: ", NUMBER(stats, "runs", "total"));
    for (int32_t outcome = SKC_OUTCOME_SUCCESS; outcome <= SKC_OUTCOME_CANCELLED; outcome++) {
        double count = NUMBER(stats, "runs", "by_outcome", skc_outcome_name(outcome));
        if (count > 0) {
            printf("%s%.0f %s", comma, count, skc_outcome_name(outcome));
            comma = ", ";
        }
    }
    printf("\n  memory    %.0f hits, %.0f misses, hit rate %.0f%%\n", NUMBER(results, "hits"),
           NUMBER(results, "misses"), 100 * NUMBER(results, "hit_rate"));
    printf("  median    executed %s, from memory %s\n",
           human((uint64_t)NUMBER(stats, "latency_us", "executed", "p50"), executed, sizeof executed),
           human((uint64_t)NUMBER(stats, "latency_us", "cached", "p50"), cached, sizeof cached));
    printf("  confined  %s, %s\n", string_of(FIND(stats, "sandbox", "mode"), mode, sizeof mode),
           string_of(FIND(stats, "sandbox", "level"), level, sizeof level));
    skc_blob_free(blob);
}

int main(int count, char **arguments) {
    if (count < 2) give_up("usage: weather FOLDER [DATABASE]");
    examples = arguments[1];
    text data = read_columns();
    char path[4096];
    if (count < 3) make_temporary();
    snprintf(path, sizeof path, "%s/skills.db", temporary);

    skc_library *library = NULL;
    skc_error *error = NULL;
    check(skc_library_open(count < 3 ? path : arguments[2], NULL, &library, &error), &error);
    run_all(library, &data);
    fail(library, &data);
    time_out(library, &data);
    show_statistics(library);
    skc_status closed = skc_library_close(library);
    free(data.bytes);
    return closed == SKC_OK ? 0 : 1;
}
