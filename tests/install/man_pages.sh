#!/bin/sh
# Every function, struct and callback has a man page, pages refer to pages that exist, and mandoc has nothing against any.
# usage: man_pages.sh <folder of man3 and man7> <promises.c>
set -eu
promised=$(sed -n 's/^\(FUNCTION\|FIELD\|CALLBACK\)(\(adamw_[a-z_]*\),.*/\2/p' "$2" | sort -u)
test "$(echo "$promised" | wc -l)" -gt 100
cd "$1"
mandoc -T lint -W warning man3/*.3 man7/*.7
linked=$(sed -n 's/^\.BR \\%\([a-z_0-9]*\) (3).*/\1/p' man3/*.3 man7/*.7 | sort -u)
for name in $promised $linked; do
  test -s "man3/$name.3" || { echo "$name has no page"; exit 1; }
done
mandoc man3/adamw_config_init.3 | grep -q 'adamw_config_init(struct adamw_config \*config, size_t struct_size);'
