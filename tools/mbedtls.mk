# SPDX-License-Identifier: MIT
# Builds mbedtls with our configuration: make -f tools/mbedtls.mk SRC= OUT= CC= AR= FLAGS= FAST= STAMP=
# A makefile of its own, since its list of files is known only once the source is unpacked.

vpath %.c $(SRC)/library $(SRC)/3rdparty/p256-m $(SRC)/3rdparty/p256-m/p256-m
sources := $(wildcard $(addsuffix /*.c,$(SRC)/library $(SRC)/3rdparty/p256-m $(SRC)/3rdparty/p256-m/p256-m))
objects := $(patsubst %.c,$(OUT)/mbedtls/%.o,$(notdir $(sources)))

# What every byte of a stream goes through; FAST is how it is optimised.
fast := aes aesni aesce gcm chacha20 poly1305 chachapoly sha256 platform_util

# Only what is called when the processor has AES, and so SSE 4.1, is compiled with it: 20 % faster.
FLAGS_aesni := $(if $(findstring -maes,$(FLAGS)),-msse4.1)

$(OUT)/libmbedtls.a: $(objects)
	@rm -f $@
	@$(AR) rcs $@ $^

$(OUT)/mbedtls/%.o: %.c $(STAMP) | $(OUT)/mbedtls
	@$(CC) $(FLAGS) $(if $(filter $(fast),$*),$(FAST)) $(FLAGS_$*) -DMBEDTLS_CONFIG_FILE='"transport/mbedtls_config.h"' -I. -I$(SRC)/include -I$(SRC)/library -MMD -MP -c -o $@ $<

$(OUT)/mbedtls:
	@mkdir -p $@

-include $(objects:.o=.d)
