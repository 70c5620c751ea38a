/* SPDX-License-Identifier: MIT */
/* IS_ENABLED(CONFIG_X): a Kconfig switch as a C expression, so that both branches compile. */
#ifndef BATON_CONFIG_H
#define BATON_CONFIG_H

/*
 * A switch that is on is defined as 1 in autoconf.h, one that is off is not defined. Pasting its
 * value onto CONFIG_ON_ gives "0," for 1 and some unknown name otherwise, so the second argument
 * of config_second is 1 or 0.
 */
#define CONFIG_ON_1 0,
#define config_second(ignored, value, ...) value
#define config_pick(...) config_second(__VA_ARGS__ 1, 0, 0)
#define config_paste(value) config_pick(CONFIG_ON_##value)

/* 1 when the switch is on, 0 when it is off or unknown. Good in #if as well. */
#define IS_ENABLED(option) config_paste(option)

#endif
