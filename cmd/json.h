/* SPDX-License-Identifier: MIT */
/* Text in JSON: names of processes and files can hold anything. */
#ifndef BATON_JSON_H
#define BATON_JSON_H

/* Prints `text` on standard output as a JSON string, with its quotes. */
void json_print_string(const char *text);

/* Prints "key": "text". */
void json_print_member(const char *key, const char *text);

#endif
