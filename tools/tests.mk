# SPDX-License-Identifier: MIT
# Unit tests and fuzzers: built for this machine with the sanitizers. For another architecture unit tests
# are built with its compiler, static and without sanitizers, for an emulator or a device.
#
# A test says in its first lines what of the product it is linked with:
#
#	needs: lib/arena.c lib/log.c engine/state/file.pb.c nanopb mbedtls
#	libs: -lm
#
# Words are source files (patterns allowed), generated X.pb.c, `nanopb` (its runtime) and `mbedtls`;
# arch/X.c is that file of the architecture.

UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
ifneq ($(filter transport/pack.c,$(SWITCHED_OFF)),)
UNIT_TESTS := $(filter-out %/test_pack,$(UNIT_TESTS))
FUZZERS := $(filter-out %/fuzz_pack,$(FUZZERS))
endif

HOST_CFLAGS = -std=gnu11 -O1 -g -fno-strict-aliasing -fno-omit-frame-pointer $(CONFIG_CFLAGS) \
	-Wall -Wextra $(WERROR) -D_GNU_SOURCE -I. -I$(B)/gen -I$(B) -Iarch/$(ARCH_DIR) \
	$(NANOPB_FLAGS) -isystem $(NANOPB) -isystem $(MBEDTLS)/include -isystem $(LZ4)/lib $(GCRYPT_FLAGS) \
	-DMBEDTLS_CONFIG_FILE='"transport/mbedtls_config.h"'
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
ifeq ($(ARCH),$(HOST_ARCH))
UNIT_CC = gcc $(SANITIZE)
CMOCKA := -lcmocka
TEST_CC := gcc
else
UNIT_CC = $(CC) -static
CMOCKA = $(B)/host/cmocka.o
TEST_CC = $(CC)
TEST_PREPARED := $(SRC)/cmocka.ready
# cmocka takes musl for a 32-bit libc unless told that the type is there.
HOST_CFLAGS += -isystem $(B)/linux -isystem $(SRC)/cmocka/include -D_UINTPTR_T
endif
FUZZ_CC = clang $(SANITIZE)

.PHONY: unit-tests fuzzers
unit-tests: $(UNIT_TESTS)
fuzzers: $(FUZZERS)

# $(call needs,FILE): its words. $(call needed,FILE,OBJDIR): the objects and libraries they mean.
needs = $(shell sed -n '1,20s/^.*needs: *\(.*[^ *\/]\)[ *\/]*$$/\1/p' $(1))
libs = $(shell sed -n '1,20s/^.*libs: *\(.*[^ *\/]\)[ *\/]*$$/\1/p' $(1))
needed = $(foreach w,$(filter-out $(SWITCHED_OFF),$(1)),$(call needed_$(if $(filter nanopb mbedtls,$(w)),$(w),file),$(w),$(2)))
needed_file = $(patsubst %.c,$(2)/%.o,$(or $(filter %.pb.c,$(1)),$(wildcard $(call source_of,$(1))),$(call source_of,$(1))))
source_of = $(patsubst arch/%,arch/$(ARCH_DIR)/%,$(1))
needed_nanopb = $(foreach f,pb_common pb_encode pb_decode,$(2)/nanopb/$(f).o)
needed_mbedtls = $(B)/host/libmbedtls.a $(GCRYPT_SOURCES:%.c=$(2)/%.o) $(GCRYPT_LIBRARIES)

# One rule a test: $(call test_rule,BINARY,SOURCE,OBJDIR,COMPILER,LIBRARIES)
define test_rule
$(1): $(3)/$(2:.c=.o) $(sort $(call needed,$(call needs,$(2)),$(3)))
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$$(Q)$(4) -o $$@ $$(filter-out %.a %/cmocka.o,$$^) $$(filter %.a,$$^) $(5) $(call libs,$(2))
TEST_OBJECTS += $(3)/$(2:.c=.o) $(filter %.o,$(call needed,$(call needs,$(2)),$(3)))
endef

ifneq ($(filter unit-tests fuzzers $(B)/unit/% $(B)/fuzz/%,$(GOALS)),)
$(foreach t,$(UNIT_TESTS),$(eval $(call test_rule,$(t),$(t:$(B)/%=tests/%.c),$(B)/host/unit,$(UNIT_CC),$(CMOCKA))))
$(foreach t,$(FUZZERS),$(eval $(call test_rule,$(t),$(t:$(B)/%=tests/%.c),$(B)/host/fuzz,$(FUZZ_CC) -fsanitize=fuzzer)))
-include $(sort $(TEST_OBJECTS:.o=.d))
endif

ifneq ($(ARCH),$(HOST_ARCH))
$(UNIT_TESTS): $(CMOCKA)
endif

$(B)/host/cmocka.o: $(SRC)/cmocka.ready | $(PREPARED)
	$(call say,CC,cmocka)
	@mkdir -p $(@D)
	$(Q)$(CC) -O1 -g -D_GNU_SOURCE -DHAVE_INTTYPES_H -DHAVE_SIGNAL_H -DHAVE_STRINGS_H \
		-DHAVE_GCC_THREAD_LOCAL_STORAGE -DHAVE_SIGLONGJMP -DHAVE_STRSIGNAL -D_UINTPTR_T -include stdint.h \
		-I$(SRC)/cmocka/include -c -o $@ $(SRC)/cmocka/src/cmocka.c

define host_rules
$(B)/host/$(1)/%.o: %.c | $(PREPARED) $(TEST_PREPARED)
	$$(call say,$(2),$$<)
	@mkdir -p $$(@D)
	$$(Q)$(3) $$(HOST_CFLAGS) -MMD -MP -c -o $$@ $$<

$(B)/host/$(1)/%.pb.o: $(B)/gen/%.pb.c | $(PREPARED)
	$$(call say,$(2),$$<)
	@mkdir -p $$(@D)
	$$(Q)$(3) $$(HOST_CFLAGS) -MMD -MP -c -o $$@ $$<

$(B)/host/$(1)/nanopb/%.o: $(NANOPB_READY) | $(PREPARED)
	$$(call say,$(2),nanopb/$$*.c)
	@mkdir -p $$(@D)
	$$(Q)$(3) $$(HOST_CFLAGS) -MMD -MP -c -o $$@ $(NANOPB)/$$*.c
endef
$(eval $(call host_rules,unit,CC asan,$(UNIT_CC)))
$(eval $(call host_rules,fuzz,CC fuzz,$(FUZZ_CC) -fsanitize=fuzzer-no-link))

$(B)/host/libmbedtls.a: $(MBEDTLS_READY) $(MBEDTLS_CONFIG) $(B)/autoconf.h tools/mbedtls.mk | $(PREPARED)
	$(call say,BUILD,mbedtls for the tests)
	@mkdir -p $(B)/host
	+$(Q)$(MAKE) -f tools/mbedtls.mk SRC='$(MBEDTLS)' OUT='$(B)/host' CC='$(TEST_CC)' AR='$(AR)' \
		FLAGS="-std=gnu11 -O2 -g $(LIB_CFLAGS_$(ARCH)) $(CONFIG_CFLAGS) $(GCRYPT_FLAGS) -isystem $(B)/linux"
	@touch $@

# The benchmarks use the product's own ciphers, whichever they are. `make bench-cipher` runs those of several
# configurations.
.PHONY: bench-floors bench-cipher-program
bench-floors: $(B)/bench/floors
bench-cipher-program: $(B)/bench/cipher
$(B)/bench/product.a: $(OBJECTS) $(PB_OBJECTS)
	@mkdir -p $(@D) && rm -f $@
	$(Q)$(AR) rcs $@ $(filter-out $(B)/obj/cmd/%,$^)

$(B)/bench/floors: $(wildcard tests/bench/floors*.[ch])
$(B)/bench/cipher: tests/bench/cipher.c
$(B)/bench/floors $(B)/bench/cipher: $(B)/bench/product.a $(LIBRARIES)
	$(call say,LINK,$@)
	$(Q)$(CC) $(OUR_CFLAGS) $(LINK_FLAGS) -o $@ $(filter tests/bench/%.c,$^) -Wl,--start-group \
		$(filter %.a,$^) -Wl,--end-group
