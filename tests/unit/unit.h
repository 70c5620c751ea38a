/* SPDX-License-Identifier: MIT */
/* cmocka with what it wants included before it. */
#ifndef BATON_UNIT_H
#define BATON_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* keep after the above */
#include <cmocka.h>

#define UNUSED(x) ((void)(x))

#endif
