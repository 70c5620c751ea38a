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
$(if $(filter x86_64 arm64,$(ARCH)),,$(error there is no baton for $(ARCH): ARCH=x86_64 and ARCH=arm64 are there, docs/porting.md is for others))
export ARCH

# Everything of one architecture, and what all architectures share. CONFIG=NAME begins with
# board/NAME/defconfig, in a folder of its own.
CONFIG ?=
B := $(O)/$(ARCH)$(addprefix -,$(CONFIG))
SRC := $(O)/src

# A release says its version (make dist). Around one that was unpacked there may be somebody else's git.
VERSION := $(or $(file <.version),$(if $(wildcard .git),$(shell git describe --tags --always --dirty=+ 2>/dev/null)),unknown)

# TOOLCHAIN=PREFIX: a whole one, with musl and the kernel's headers (PREFIXgcc, PREFIXgcc-ar, ...).
TOOLCHAIN ?=
LINUX := $(if $(TOOLCHAIN),,$(B)/linux)
ifneq ($(TOOLCHAIN),)
CC := $(TOOLCHAIN)gcc
CROSS := $(TOOLCHAIN)
else ifneq ($(ARCH),$(HOST_ARCH))
CC := $(or $(CROSS_CC),$(B)/musl/bin/musl-gcc)
CROSS ?= $(MACHINE)-linux-gnu-
else
CC := musl-gcc
CROSS ?=
endif
AR := $(CROSS)gcc-ar
NM := $(CROSS)gcc-nm
STRIP := $(CROSS)strip
SIZE := $(CROSS)size
READELF := $(CROSS)readelf

# A python3 from elsewhere on PATH has neither kconfiglib nor protobuf.
PYTHON := /usr/bin/python3 -I
GENERATOR := $(PYTHON) /usr/bin/nanopb_generator.py
# What a .config of an older release sets, and Kconfig knows no more, is told of.
KCONFIG := KCONFIG_WARN_UNDEF_ASSIGN=y KCONFIG_CONFIG=$(B)/.config $(PYTHON) -m

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
PLAIN_GOALS := help setup clean distclean dist print-binary print-arch demo check check-vm check-vm-full chaos bench bench-cipher lint sanitize \
	menuconfig defconfig olddefconfig savedefconfig %_defconfig

ifneq ($(filter-out $(PLAIN_GOALS),$(GOALS)),)
include $(B)/auto.conf
endif

include tools/config.mk

# ---- sources --------------------------------------------------------------------------------

PROTOS := $(wildcard transport/*.proto engine/*/*.proto)
SOURCES := $(wildcard lib/*.c transport/*.c engine/*/*.c arch/$(ARCH_DIR)/*.c board/*.c)

# A command is built when its switch is on; files of cmd/ that are no command always are.
COMMANDS := check keygen trust receive send dump restore status resume abort inspect core console evacuate version
upper = $(shell echo $(1) | tr a-z A-Z)
command_off = $(if $(CONFIG_CMD_$(call upper,$(1))),,cmd/$(1).c)
# Two commands of one switch.
CONFIG_CMD_PROTECT = $(CONFIG_CMD_EVACUATE)
COMMANDS += protect
SOURCES += $(filter-out $(foreach c,$(COMMANDS),$(call command_off,$(c))),$(wildcard cmd/*.c))
GCRYPT_SOURCES := $(if $(CONFIG_CIPHER_LIBGCRYPT),$(wildcard transport/gcrypt/*.c))
SOURCES += $(GCRYPT_SOURCES)

# Files that a switch leaves out.
SWITCHED_OFF := $(if $(CONFIG_COMPRESS_LZ4),,transport/pack.c) $(if $(CONFIG_CIPHER_LIBGCRYPT),lib/stream.c)
SOURCES := $(filter-out $(SWITCHED_OFF),$(SOURCES))

GENERATED := $(PROTOS:%.proto=$(B)/gen/%.pb.c)
OBJECTS := $(SOURCES:%.c=$(B)/obj/%.o)
PB_OBJECTS := $(GENERATED:$(B)/gen/%.c=$(B)/obj/gen/%.o) \
	$(patsubst %,$(B)/obj/nanopb/%.o,pb_common pb_encode pb_decode)

MBEDTLS := $(or $(MBEDTLS_DIR),$(SRC)/mbedtls)
NANOPB := $(or $(NANOPB_DIR),$(SRC)/nanopb)
LZ4 := $(or $(LZ4_DIR),$(SRC)/lz4)
MBEDTLS_CONFIG := transport/mbedtls_config.h transport/psa_config.h
MBEDTLS_READY := $(if $(MBEDTLS_DIR),$(MBEDTLS_DIR)/library/ssl_tls.c,$(SRC)/mbedtls.ready)
NANOPB_READY := $(if $(NANOPB_DIR),$(NANOPB_DIR)/pb_encode.c,$(SRC)/nanopb.ready)
LZ4_READY := $(if $(LZ4_DIR),$(LZ4_DIR)/lib/lz4.c,$(SRC)/lz4.ready)

# Only where it makes the ciphers: include/gcrypt.h and what is linked. The same for all configurations.
GCRYPT := $(or $(GCRYPT_DIR),$(SRC)/gcrypt-$(ARCH))
GCRYPT_LIBRARIES := $(if $(CONFIG_CIPHER_LIBGCRYPT),$(GCRYPT)/lib/libgcrypt.a $(GCRYPT)/lib/libgpg-error.a)
GCRYPT_FLAGS := $(if $(CONFIG_CIPHER_LIBGCRYPT),-iquote transport/gcrypt -isystem $(GCRYPT)/include)
LIBRARIES := $(B)/libmbedtls.a $(GCRYPT_LIBRARIES)

# What must stand before the first of our files is compiled; later the dependency files know.
PREPARED := $(GENERATED) $(B)/autoconf.h $(MBEDTLS_READY) $(NANOPB_READY) $(if $(CONFIG_COMPRESS_LZ4),$(LZ4_READY)) $(LINUX) \
	$(filter $(B)/musl/bin/musl-gcc,$(CC)) $(firstword $(GCRYPT_LIBRARIES))

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

# Tables are not spread over more cache lines than they need; a row of a jump table has 8 bytes, which
# compares mostly have not.
SIZE_CFLAGS_x86_64 := -malign-data=abi -fno-jump-tables
STACK_PROTECTOR := $(if $(CONFIG_STACK_PROTECTOR_STRONG),-fstack-protector-strong,-fstack-protector)
# fno-strict-aliasing: buffers from the wire and from other processes are read as structures.
# For size but for the ciphers: the rest waits for them, for the kernel or for the link. What the compiler calls
# expensive makes more code of it here.
BASE_CFLAGS := -std=gnu11 -Oz -fno-expensive-optimizations -g -fno-pie -ffunction-sections -fdata-sections -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -fno-unwind-tables $(STACK_PROTECTOR) $(SIZE_CFLAGS_$(ARCH)) -ffile-prefix-map=$(CURDIR)/= $(addprefix -isystem ,$(LINUX))
# Lets mbedtls use what it asks the processor for. Nothing that the compiler would use by itself, as it
# does SSE 4.1: the program must run where there is none of it.
LIB_CFLAGS_x86_64 := -maes -mpclmul
CIPHER_CFLAGS := $(if $(CONFIG_OPTIMIZE_SIZE),,-O2 -fexpensive-optimizations)
CONFIG_CFLAGS := -include $(B)/autoconf.h
# Whoever includes its headers must see the same: no words for what is wrong with a message, and no streams.
NANOPB_FLAGS := -DPB_NO_ERRMSG -DPB_BUFFER_ONLY

OUR_CFLAGS = $(BASE_CFLAGS) $(LTO) $(CONFIG_CFLAGS) -Wall -Wextra $(WERROR) -D_GNU_SOURCE \
	-I. -I$(B)/gen -I$(B) -Iarch/$(ARCH_DIR) $(NANOPB_FLAGS) -isystem $(NANOPB) -isystem $(MBEDTLS)/include \
	$(GCRYPT_FLAGS) -isystem $(LZ4)/lib -DMBEDTLS_CONFIG_FILE='"transport/mbedtls_config.h"' $(CFLAGS)
MBEDTLS_CFLAGS = $(BASE_CFLAGS) $(LTO) $(LIB_CFLAGS_$(ARCH)) $(CONFIG_CFLAGS) $(GCRYPT_FLAGS)
NANOPB_CFLAGS = $(BASE_CFLAGS) $(LTO) $(NANOPB_FLAGS) -I$(B)/gen -I$(NANOPB)
# All of the program is optimised as one; the tests' objects and those of musl are not part of that.
# `make LTO=` links at once, for trying things out. In one partition: no small function is there several times.
LTO := -flto
# norelro: musl never applies it in a static program. noseparate-code: code and constants follow each other
# in the file without zeros between them (arm64's linker does that anyway).
LINK_FLAGS := $(BASE_CFLAGS) $(LTO) $(addsuffix -partition=one,$(LTO)) -static -no-pie -Wl,--gc-sections \
	-Wl,-z,norelro,-z,noseparate-code,-z,noexecstack
ifneq ($(filter-out $(PLAIN_GOALS),$(GOALS)),)
$(call remember,$(B)/flags,$(CC) $(OUR_CFLAGS) : $(MBEDTLS_CFLAGS) $(CIPHER_CFLAGS))
endif

# ---- the binary -----------------------------------------------------------------------------

# The checks are part of the link: a binary that fails one of them is not left behind.
$(B)/baton: $(OBJECTS) $(PB_OBJECTS) $(LIBRARIES) $(B)/objects.list tools/check-binary
	$(call say,LINK,$@)
	$(Q)$(CC) $(LINK_FLAGS) $(LDFLAGS) -Wl,-Map=$(B)/baton.map -o $@.debug $(OBJECTS) $(PB_OBJECTS) $(LIBRARIES)
	$(Q)$(STRIP) -R .comment -o $@ $@.debug
	$(Q)$(CHECK_BINARY) || { rm -f $@; exit 1; }

# The limit holds for what is built without a say of the user, another for the large library.
SIZE_LIMIT_KIB = $(if $(CONFIG_CIPHER_LIBGCRYPT),1536,$(if $(wildcard $(B)/.config.is_default),512))
# libgcrypt would allocate by itself if it were not told to ask us: then only our objects are looked at.
CHECK_BINARY = NM=$(NM) READELF=$(READELF) tools/check-binary $(B)/baton "$(SIZE_LIMIT_KIB)" \
	$(if $(CONFIG_CIPHER_LIBGCRYPT),$(OBJECTS))

.PHONY: check-binary
check-binary: $(B)/baton
	$(Q)$(CHECK_BINARY)

$(OBJECTS): $(B)/obj/%.o: %.c $(B)/flags | $(PREPARED)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(OUR_CFLAGS) -MMD -MP -c -o $@ $<

# The compiler knows these functions by name, and must not have them in hand when it puts calls to them.
$(B)/obj/lib/printf.o $(B)/obj/lib/stream.o $(B)/obj/lib/format.o $(B)/obj/lib/search.o: LTO := -fno-builtin

$(B)/obj/gen/%.o: $(B)/gen/%.c $(B)/flags | $(PREPARED)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(NANOPB_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/nanopb/%.o: $(NANOPB_READY) $(B)/flags | $(PREPARED)
	$(call say,CC,nanopb/$*.c)
	@mkdir -p $(@D)
	$(Q)$(CC) $(NANOPB_CFLAGS) -MMD -MP -c -o $@ $(NANOPB)/$*.c

$(B)/libmbedtls.a: $(MBEDTLS_READY) $(MBEDTLS_CONFIG) $(B)/autoconf.h $(B)/flags tools/mbedtls.mk | $(PREPARED)
	$(call say,BUILD,mbedtls for $(ARCH))
	+$(Q)$(MAKE) -f tools/mbedtls.mk SRC='$(MBEDTLS)' OUT='$(B)' CC='$(CC)' AR='$(AR)' FLAGS="$(MBEDTLS_CFLAGS)" FAST='$(CIPHER_CFLAGS)' STAMP='$(B)/flags'
	@touch $@

# For this architecture's C library; tests use the same.
ifndef GCRYPT_DIR
$(lastword $(GCRYPT_LIBRARIES)): $(firstword $(GCRYPT_LIBRARIES))
$(firstword $(GCRYPT_LIBRARIES)): $(SRC)/libgcrypt20.ready $(SRC)/libgpg-error.ready tools/gcrypt.mk | $(LINUX) \
		$(filter $(B)/musl/bin/musl-gcc,$(CC))
	$(call say,BUILD,libgcrypt for $(ARCH))
	+$(Q)$(MAKE) -f tools/gcrypt.mk SRC='$(abspath $(SRC)/libgcrypt20)' ERR='$(abspath $(SRC)/libgpg-error)' \
		OUT='$(abspath $(GCRYPT))' HOST=$(MACHINE)-linux-musl CC='$(if $(findstring /,$(CC)),$(abspath $(CC)),$(CC))' \
		AR='$(AR)' RANLIB='$(CROSS)gcc-ranlib' CFLAGS='-O2 -g -ffunction-sections -fdata-sections $(addprefix -isystem ,$(abspath $(LINUX)))'
	@touch $(GCRYPT_LIBRARIES)
endif

# Compiles everything and links nothing.
.PHONY: objects
objects: $(OBJECTS) $(PB_OBJECTS) $(LIBRARIES)

$(B):
	@mkdir -p $@

# ---- what is generated or fetched -----------------------------------------------------------

# A release has the messages generated, and they count as long as nobody changes what they are made from.
RELEASED := $(if $(wildcard generated/sources),$(shell sha256sum --status -c generated/sources && echo y))
# The generator reads the .options file beside the .proto by itself.
$(B)/gen/%.pb.c $(B)/gen/%.pb.h: %.proto $(wildcard $(PROTOS:.proto=.options)) | $(B)
	$(call say,NANOPB,$<)
	@mkdir -p $(@D)
	$(Q)$(if $(RELEASED),cp generated/$*.pb.c generated/$*.pb.h $(@D),$(GENERATOR) -q -I . -D $(B)/gen $<)

.PHONY: messages
messages: $(GENERATED)

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
	$(Q)tools/debian-source $(dir $(SRC))apt $* $(SUITE_$*) $(SRC)/$*
	@touch $@
SUITE_mbedtls := trixie
SUITE_nanopb := bookworm
SUITE_musl := trixie
SUITE_lz4 := trixie
SUITE_cmocka := bookworm
SUITE_libgcrypt20 := trixie
SUITE_libgpg-error := trixie

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
