/* Checks a checkpoint and prints what is in it.
 *
 * usage: inspect <checkpoint> */
#include <adamw.h>
#include <stdio.h>

static int32_t print(const adamw_entry *entry, void *user_data) {
  (void)user_data;
  if (entry->text)
    printf("%s: %.200s\n", entry->name, entry->text);
  else if (entry->value == entry->value) /* no NaN */
    printf("%s  %s  %.17g\n", entry->name, entry->dtype, entry->value);
  else
    printf("%s  %s [%llu] at byte %llu\n", entry->name, entry->dtype, (unsigned long long)entry->n_elements,
           (unsigned long long)entry->offset);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s <checkpoint>\n", argv[0]);
    return 2;
  }
  adamw_source source = {.struct_size = sizeof source, .path = argv[1]};
  if (adamw_inspect(&source, print, NULL)) {
    fprintf(stderr, "%s\n", adamw_last_error());
    return 2;
  }
  return 0;
}
