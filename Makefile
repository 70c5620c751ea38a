# SPDX-License-Identifier: MIT
# Builds baton and everything around it. `make help` lists what can be made.

# ---- what can be set ------------------------------------------------------------------------

O ?= build
PREFIX ?= /usr/local
DESTDIR ?=
V ?= 0
WERROR ?= -Werror

# x86_64 or arm64, whatever uname and users call it; compilers say aarch64.
arch_of = $(patsubst aarch64,arm64,$(1))
HOST_ARCH := $(call arch_of,$(shell uname -m))
override ARCH := $(call arch_of,$(or $(ARCH),$(HOST_ARCH)))
ARCH_DIR := $(patsubst x86_64,x86,$(ARCH))
MACHINE := $(patsubst arm64,aarch64,$(ARCH))
export ARCH

# Everything of one architecture, and what all architectures share.
B := $(O)/$(ARCH)
SRC := $(O)/src

VERSION := $(or $(shell git describe --tags --always --dirty=+ 2>/dev/null),0.1)

ifneq ($(ARCH),$(HOST_ARCH))
CC := $(or $(CROSS_CC),$(B)/musl/bin/musl-gcc)
CROSS ?= $(MACHINE)-linux-gnu-
else
CC := musl-gcc
CROSS ?=
endif
AR := $(CROSS)gcc-ar
NM := $(CROSS)nm
STRIP := $(CROSS)strip
SIZE := $(CROSS)size
READELF := $(CROSS)readelf

# A python3 from elsewhere on PATH has neither kconfiglib nor protobuf.
PYTHON := /usr/bin/python3 -I
KCONFIG := KCONFIG_CONFIG=$(B)/.config $(PYTHON) -m

ifeq ($(V),0)
Q := @
MAKEFLAGS += --no-print-directory
say = @printf '  %-7s %s\n' "$(1)" "$(2)"
else
Q :=
say = @:
endif

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

.PHONY: all
all: $(B)/baton

# ---- goals that need no configuration -------------------------------------------------------

GOALS := $(or $(MAKECMDGOALS),all)
PLAIN_GOALS := help setup clean distclean print-binary demo check check-vm check-vm-full chaos bench lint sanitize \
	menuconfig defconfig olddefconfig savedefconfig %_defconfig

ifneq ($(filter-out $(PLAIN_GOALS),$(GOALS)),)
include $(B)/auto.conf
endif

include tools/config.mk

# ---- sources --------------------------------------------------------------------------------

PROTOS := $(wildcard transport/*.proto engine/*/*.proto)
SOURCES := $(wildcard lib/*.c transport/*.c engine/*/*.c arch/$(ARCH_DIR)/*.c board/*.c)

# A command is built when its switch is on; files of cmd/ that are no command always are.
COMMANDS := check keygen trust receive send dump restore status resume abort console evacuate version
upper = $(shell echo $(1) | tr a-z A-Z)
command_off = $(if $(CONFIG_CMD_$(call upper,$(1))),,cmd/$(1).c)
# Two commands of one switch.
CONFIG_CMD_PROTECT = $(CONFIG_CMD_EVACUATE)
COMMANDS += protect
SOURCES += $(filter-out $(foreach c,$(COMMANDS),$(call command_off,$(c))),$(wildcard cmd/*.c))

GENERATED := $(PROTOS:%.proto=$(B)/gen/%.pb.c)
OBJECTS := $(SOURCES:%.c=$(B)/obj/%.o)
PB_OBJECTS := $(GENERATED:$(B)/gen/%.c=$(B)/obj/gen/%.o) \
	$(patsubst %,$(B)/obj/nanopb/%.o,pb_common pb_encode pb_decode)

MBEDTLS := $(or $(MBEDTLS_DIR),$(SRC)/mbedtls)
NANOPB := $(or $(NANOPB_DIR),$(SRC)/nanopb)
MBEDTLS_READY := $(if $(MBEDTLS_DIR),$(MBEDTLS_DIR)/library/ssl_tls.c,$(SRC)/mbedtls.ready)
NANOPB_READY := $(if $(NANOPB_DIR),$(NANOPB_DIR)/pb_encode.c,$(SRC)/nanopb.ready)

# What must stand before the first of our files is compiled; later the dependency files know.
PREPARED := $(GENERATED) $(B)/autoconf.h $(MBEDTLS_READY) $(NANOPB_READY) $(B)/linux \
	$(filter $(B)/musl/bin/musl-gcc,$(CC))

# Files whose content make itself knows are written while it reads this, when they change: then a
# source that was deleted relinks, and make -q is right.
write = $(shell mkdir -p $(B); echo '$(2)' | cmp -s - $(1) || echo '$(2)' > $(1))
ifneq ($(filter-out $(PLAIN_GOALS),$(GOALS)),)
$(call write,$(B)/objects.list,$(OBJECTS) $(PB_OBJECTS))
$(call write,$(B)/version.h,#define BATON_VERSION "$(VERSION)")
endif
# The same for flags, which the shell must not touch: other flags, and everything is built anew.
same = $(and $(findstring $(1),$(2)),$(findstring $(2),$(1)))
remember = $(shell mkdir -p $(B))$(if $(call same,$(strip $(file <$(1))),$(strip $(2))),,$(file >$(1),$(strip $(2))))

# ---- flags ----------------------------------------------------------------------------------

# fno-strict-aliasing: buffers from the wire and from other processes are read as structures.
# -Os but for the ciphers: the rest waits for them, for the kernel or for the link.
BASE_CFLAGS := -std=gnu11 -Os -g -fno-pie -ffunction-sections -fdata-sections -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -fno-unwind-tables -fstack-protector-strong -ffile-prefix-map=$(CURDIR)/= -isystem $(B)/linux
# Lets mbedtls use what it asks the processor for. Nothing that the compiler would use by itself, as it
# does SSE 4.1: the program must run where there is none of it.
LIB_CFLAGS_x86_64 := -maes -mpclmul
# musl never applies it in a static program, and with pages of 64 KiB its alignment is 12 KiB of zeros.
LINK_FLAGS_arm64 := -Wl,-z,norelro
CIPHER_CFLAGS := $(if $(CONFIG_OPTIMIZE_SIZE),,-O2)
CONFIG_CFLAGS := -include $(B)/autoconf.h

OUR_CFLAGS = $(BASE_CFLAGS) $(CONFIG_CFLAGS) -Wall -Wextra $(WERROR) -D_GNU_SOURCE \
	-I. -I$(B)/gen -I$(B) -Iarch/$(ARCH_DIR) -isystem $(NANOPB) -isystem $(MBEDTLS)/include \
	-DMBEDTLS_CONFIG_FILE='"transport/mbedtls_config.h"' $(CFLAGS)
MBEDTLS_CFLAGS = $(BASE_CFLAGS) $(LIB_CFLAGS_$(ARCH)) $(CONFIG_CFLAGS)
NANOPB_CFLAGS = $(BASE_CFLAGS) -I$(B)/gen -I$(NANOPB)
LINK_FLAGS := -static -no-pie -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack $(LINK_FLAGS_$(ARCH))
ifneq ($(filter-out $(PLAIN_GOALS),$(GOALS)),)
$(call remember,$(B)/flags,$(CC) $(OUR_CFLAGS) : $(MBEDTLS_CFLAGS) $(CIPHER_CFLAGS))
endif

# ---- the binary -----------------------------------------------------------------------------

# The checks are part of the link: a binary that fails one of them is not left behind.
$(B)/baton: $(OBJECTS) $(PB_OBJECTS) $(B)/libmbedtls.a $(B)/objects.list tools/check-binary
	$(call say,LINK,$@)
	$(Q)$(CC) $(LINK_FLAGS) $(LDFLAGS) -Wl,-Map=$(B)/baton.map -o $@.debug $(OBJECTS) $(PB_OBJECTS) $(B)/libmbedtls.a
	$(Q)$(STRIP) -o $@ $@.debug
	$(Q)NM=$(NM) READELF=$(READELF) tools/check-binary $@ "$(SIZE_LIMIT_KIB)" $(OBJECTS) \
		|| { rm -f $@; exit 1; }

# The limit holds for what is built without a say of the user.
SIZE_LIMIT_KIB = $(if $(wildcard $(B)/.config.is_default),512,)

$(OBJECTS): $(B)/obj/%.o: %.c $(B)/flags | $(PREPARED)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(OUR_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/gen/%.o: $(B)/gen/%.c $(B)/flags | $(PREPARED)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(NANOPB_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/nanopb/%.o: $(NANOPB_READY) $(B)/flags | $(PREPARED)
	$(call say,CC,nanopb/$*.c)
	@mkdir -p $(@D)
	$(Q)$(CC) $(NANOPB_CFLAGS) -MMD -MP -c -o $@ $(NANOPB)/$*.c

$(B)/libmbedtls.a: $(MBEDTLS_READY) transport/mbedtls_config.h $(B)/autoconf.h $(B)/flags tools/mbedtls.mk | $(PREPARED)
	$(call say,BUILD,mbedtls for $(ARCH))
	+$(Q)$(MAKE) -f tools/mbedtls.mk SRC='$(MBEDTLS)' OUT='$(B)' CC='$(CC)' AR='$(AR)' FLAGS="$(MBEDTLS_CFLAGS)" FAST='$(CIPHER_CFLAGS)' STAMP='$(B)/flags'
	@touch $@

# Compiles everything and links nothing.
.PHONY: objects
objects: $(OBJECTS) $(PB_OBJECTS) $(B)/libmbedtls.a

$(B):
	@mkdir -p $@

# ---- what is generated or fetched -----------------------------------------------------------

# The generator reads the .options file beside the .proto by itself.
$(B)/gen/%.pb.c $(B)/gen/%.pb.h: %.proto $(wildcard $(PROTOS:.proto=.options)) | $(B)
	$(call say,NANOPB,$<)
	@mkdir -p $(@D)
	$(Q)$(PYTHON) /usr/bin/nanopb_generator.py -q -I . -D $(B)/gen $<

# For another architecture musl is built with its compiler; the wrapper is then our compiler. We print no
# long double, and where it has 128 bits its software arithmetic is 10 KiB.
$(B)/musl/bin/musl-gcc: $(SRC)/musl.ready
	$(call say,BUILD,musl for $(ARCH))
	@command -v $(CROSS)gcc >/dev/null || { echo "$(CROSS)gcc is missing; run 'tools/setup cross'" >&2; exit 1; }
	@rm -rf $(B)/musl && mkdir -p $(B)/musl/build
	@sed -i 's/long double/double/g; s/LDBL_/DBL_/g; s/frexpl/frexp/g' $(SRC)/musl/src/stdio/vfprintf.c
	$(Q)cd $(B)/musl/build && CC=$(CROSS)gcc CFLAGS='-Os -w' CROSS_COMPILE=$(CROSS) $(abspath $(SRC)/musl)/configure \
		--target=$(MACHINE)-linux-musl --disable-shared --enable-wrapper=gcc \
		--prefix=$(abspath $(B)/musl) >configure.log
	+$(Q)$(MAKE) -C $(B)/musl/build ARCH=$(MACHINE) install >$(B)/musl/build/make.log
	@touch $@

$(SRC)/%.ready: | $(B)
	@mkdir -p $(SRC)
	$(Q)tools/debian-source $(O)/apt $* $(SUITE_$*) $(SRC)/$*
	@touch $@
SUITE_mbedtls := trixie
SUITE_nanopb := bookworm
SUITE_musl := trixie
SUITE_cmocka := bookworm

# musl's wrapper hides the system's include folder; the kernel's headers are let in by name.
$(B)/linux: | $(B)
	@mkdir -p $@.part
	@ln -sfn /usr/include/linux $@.part/linux
	@ln -sfn /usr/include/asm-generic $@.part/asm-generic
	@ln -sfn $(firstword $(wildcard /usr/include/$(MACHINE)-linux-gnu/asm /usr/$(MACHINE)-linux-gnu/include/asm) \
		/usr/include/asm) $@.part/asm
	@mv -T $@.part $@

-include $(OBJECTS:.o=.d) $(PB_OBJECTS:.o=.d)

include tools/tests.mk
include tools/goals.mk
