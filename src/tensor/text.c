#include "tensor/text.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* Room for `count` more bytes and the final 0; twice as much as there was, so that a long text is copied few times. */
static bool make_room(text_buffer *text, size_t count) {
  if (text->failed) return false;
  size_t needed = text->length + count + 1;
  if (needed <= text->room) return true;
  size_t room = needed < 128 ? 256 : 2 * needed;
  char *bytes = memory_take((int64_t)room);
  text->failed = !bytes;
  if (!bytes) return false;
  if (text->bytes) memcpy(bytes, text->bytes, text->length);
  memory_give(text->bytes);
  text->bytes = bytes;
  text->room = room;
  return true;
}

void text_add_bytes(text_buffer *text, const char *bytes, size_t count) {
  if (count == 0 || !make_room(text, count)) return;
  memcpy(text->bytes + text->length, bytes, count);
  text->length += count;
}

void text_add(text_buffer *text, const char *string) {
  text_add_bytes(text, string, strlen(string));
}

void text_repeat(text_buffer *text, char byte, int64_t count) {
  if (count <= 0 || !make_room(text, (size_t)count)) return;
  memset(text->bytes + text->length, byte, (size_t)count);
  text->length += (size_t)count;
}

void text_add_sizes(text_buffer *text, int ndim, const int64_t *sizes) {
  char digits[24];
  for (int i = 0; i < ndim; i++) {
    if (i > 0) text_add(text, ", ");
    text_add_bytes(text, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)sizes[i]));
  }
}

void text_add_size(text_buffer *text, int ndim, const int64_t *sizes) {
  text_add(text, "torch.Size([");
  text_add_sizes(text, ndim, sizes);
  text_add(text, "])");
}

/* One character inside of quotes, as Python's repr has it. */
static void add_character(text_buffer *text, char character, char quote) {
  char escaped[8];
  switch (character) {
  case '\n': text_add(text, "\\n"); return;
  case '\r': text_add(text, "\\r"); return;
  case '\t': text_add(text, "\\t"); return;
  case '\\': text_add(text, "\\\\"); return;
  default: break;
  }
  if (character == quote) text_add(text, "\\");
  bool control = (unsigned char)character < ' ' || character == 127;
  snprintf(escaped, sizeof escaped, control ? "\\x%02x" : "%c", character);
  text_add(text, escaped);
}

void text_add_quoted(text_buffer *text, const char *string) {
  char quote = strchr(string, '\'') && !strchr(string, '"') ? '"' : '\'';
  text_add_bytes(text, &quote, 1);
  for (; *string; string++)
    add_character(text, *string, quote);
  text_add_bytes(text, &quote, 1);
}

char *text_take(text_buffer *text) {
  if (!make_room(text, 0)) {
    text_drop(text);
    return NULL;
  }
  text->bytes[text->length] = 0;
  return text->bytes;
}

void text_drop(text_buffer *text) {
  memory_give(text->bytes);
  text->bytes = NULL;
}
