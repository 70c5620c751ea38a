# SPDX-License-Identifier: MIT
# The goals for people. Those that set the machine up first call make again.

JOBS ?= $(shell nproc)
SUB = +$(Q)$(MAKE) --no-print-directory -j$(JOBS)

.PHONY: help
help:
	@sed 's/^# \{0,1\}//' tools/help.txt

.PHONY: print-binary print-arch
print-binary:
	@echo $(B)/baton
print-arch:
	@echo $(ARCH)

.PHONY: setup
setup:
	$(Q)tools/setup

.PHONY: demo
demo:
	$(Q)tools/setup build demo
	$(SUB) all
	$(Q)BATON=$(abspath $(B)/baton) tests/demo.sh

# TESTS="unit scenario" runs only these groups.
.PHONY: check
check:
	$(Q)tools/can-check
	$(Q)tools/setup build check vm
	+$(Q)MAKE='$(MAKE)' B='$(B)' JOBS='$(JOBS)' FUZZ_SECONDS='$(FUZZ_SECONDS)' tests/run $(TESTS)

# Between virtual machines: each pair of tests/vm/matrix.py; and on some of them every program there is.
.PHONY: check-vm check-vm-full
check-vm check-vm-full:
	$(Q)tools/setup build check vm
	$(SUB) all
	+$(Q)MAKE='$(MAKE)' B='$(B)' JOBS='$(JOBS)' VM_GROUPS='pairs $(if $(filter %-full,$@),all)' tests/run vm

# SEED= and ROUND= do one round again; ONLY= leaves out faults whose names lack this word.
.PHONY: chaos
chaos:
	$(Q)tools/setup build check
	$(SUB) all
	$(Q)BATON=$(abspath $(B)/baton) tests/fault/chaos $(addprefix --rounds ,$(N)) \
		$(addprefix --seed ,$(SEED)) $(addprefix --round ,$(ROUND)) $(if $(ONLY),--only '$(ONLY)')

# The same program with CONFIG_FAULT_POINTS, in a folder of its own; prints its path.
FAULTS_O := $(B)/faults
FAULTS_B := $(FAULTS_O)/$(notdir $(B))
.PHONY: fault-points
fault-points: $(MBEDTLS_READY) $(NANOPB_READY) $(if $(CONFIG_COMPRESS_LZ4),$(LZ4_READY))
	@mkdir -p $(FAULTS_B)
	@{ cat $(if $(CONFIG),$(call need_defconfig,$(CONFIG)),/dev/null); echo CONFIG_FAULT_POINTS=y; } >$(FAULTS_O)/now
	@cmp -s $(FAULTS_O)/now $(FAULTS_O)/wanted || \
		{ mv $(FAULTS_O)/now $(FAULTS_O)/wanted; cp $(FAULTS_O)/wanted $(FAULTS_B)/.config; }
	$(SUB) O=$(FAULTS_O) SRC=$(SRC) all >&2
	@echo $(FAULTS_B)/baton

# The same with every command and the kernel's TLS, as a gateway has it: for the tests of what is off by default.
FULL_O := $(B)/full
.PHONY: full
full: $(MBEDTLS_READY) $(NANOPB_READY) $(filter $(B)/musl/bin/musl-gcc,$(CC))
	@mkdir -p $(FULL_O)/$(notdir $(B))
	@printf 'CONFIG_%s=y\n' CMD_CONSOLE CMD_EVACUATE KTLS >$(FULL_O)/wanted.new
	@cmp -s $(FULL_O)/wanted.new $(FULL_O)/wanted || \
		{ mv $(FULL_O)/wanted.new $(FULL_O)/wanted; cp $(FULL_O)/wanted $(FULL_O)/$(notdir $(B))/.config; }
	$(SUB) O=$(FULL_O) SRC=$(SRC) $(if $(filter-out $(HOST_ARCH),$(ARCH)),CROSS_CC='$(abspath $(CC))') all >&2
	@echo $(FULL_O)/$(notdir $(B))/baton

# ROUNDS=5 SIZES=16,256,... ONLY='words of a name' QUICK=1; CRIU=/path/to/criu measures it, too.
.PHONY: bench
bench:
	$(Q)tools/setup build check bench
	$(SUB) all
	+$(Q)BATON=$(abspath $(B)/baton) BENCH_OUT=$(abspath $(O)/bench) CRIU='$(CRIU)' tests/bench/run \
		$(addprefix --rounds ,$(ROUNDS)) $(addprefix --sizes ,$(SIZES)) $(if $(ONLY),--only '$(ONLY)') $(if $(QUICK),--quick)

# What can run under the sanitizers: unit tests and fuzzers are always built with them.
.PHONY: sanitize
sanitize:
	+$(Q)$(MAKE) check TESTS='unit fuzz'

# What each maker's ciphers do, in turns. ROUNDS=5
.PHONY: bench-cipher
bench-cipher:
	$(SUB) CONFIG= bench-cipher-program
	$(SUB) CONFIG=gateway bench-cipher-program
	$(Q)for round in $$(seq $(or $(ROUNDS),5)); do \
		$(O)/$(ARCH)/bench/cipher && $(O)/$(ARCH)-gateway/bench/cipher || exit 1; done | tests/bench/cipher.py

.PHONY: size
size: $(B)/baton
	@tools/size-report $(B)/baton $(NM) $(SIZE)

# Scripts and units name what was installed by its place.
SCRIPTS = $(wildcard board/common/*baton* board/common/first-boot board/common/sysctl.conf) \
	$(if $(CONFIG_CMD_EVACUATE),$(wildcard board/failover/*)) $(if $(CONFIG_IMAGE),$(wildcard board/image/*))

.PHONY: install
install: $(B)/baton
	install -D -m 755 $(B)/baton $(DESTDIR)$(PREFIX)/sbin/baton
	$(Q)for f in $(SCRIPTS); do \
		to=$(DESTDIR)$(PREFIX)/lib/baton/$${f##*/}; \
		install -D -m $$(stat -c %a $$f) $$f $$to && sed 's,/usr/local,$(PREFIX),g' $$f >$$to || exit 1; done
	$(if $(wildcard docs/baton.8),install -D -m 644 docs/baton.8 $(DESTDIR)$(PREFIX)/share/man/man8/baton.8)

# The release: build/dist/baton-VERSION.tar.gz of what is committed, and its hash where buildroot looks for it.
.PHONY: dist
dist:
	+$(Q)MAKE='$(MAKE)' tools/dist $(O)/dist

.PHONY: clean distclean
clean:
	rm -rf $(B)

distclean: clean
	rm -rf $(SRC) $(O)/apt $(O)/bench $(O)/vm $(O)/dist
	-@rmdir $(O) 2>/dev/null || true

# ---- lint -----------------------------------------------------------------------------------

LINT_FILES = $(wildcard lib/*.[ch] transport/*.[ch] transport/gcrypt/*.[ch] engine/*/*.[ch] arch/*.h \
	arch/*/*.[ch] board/*.[ch] cmd/*.[ch] tests/*/*.[ch])
TIDY_FLAGS = -std=gnu11 -D_GNU_SOURCE -include $(abspath $(B))/autoconf.h -I$(CURDIR) \
	-I$(abspath $(B))/gen -I$(abspath $(B)) -I$(CURDIR)/arch/$(ARCH_DIR) \
	-isystem $(abspath $(NANOPB)) -isystem $(abspath $(MBEDTLS))/include -isystem $(abspath $(LZ4))/lib $(TIDY_GCRYPT) \
	-DMBEDTLS_CONFIG_FILE="transport/mbedtls_config.h"

TIDY_GCRYPT = $(if $(GCRYPT_FLAGS),-iquote $(CURDIR)/transport/gcrypt -isystem $(abspath $(GCRYPT))/include)

# The other architecture's files: with its C library's headers, and this one's configuration.
OTHER_MACHINE := $(if $(filter x86_64,$(ARCH)),aarch64,x86_64)
OTHER_DIR := $(if $(filter x86_64,$(ARCH)),arm64,x86)
OTHER_SOURCES = $(wildcard arch/$(OTHER_DIR)/*.c)
OTHER_FLAGS = $(subst arch/$(ARCH_DIR),arch/$(OTHER_DIR),$(TIDY_FLAGS)) \
	--target=$(OTHER_MACHINE)-linux-gnu -isystem /usr/$(OTHER_MACHINE)-linux-gnu/include
TIDY = xargs -P $(JOBS) -n 4 clang-tidy --quiet --warnings-as-errors='*' -p

.PHONY: lint lint-run lint-format lint-tidy lint-cppcheck lint-pages format
lint:
	$(Q)tools/setup build lint
	+$(Q)$(MAKE) -k lint-run

lint-run: lint-format lint-tidy lint-cppcheck lint-pages

lint-format:
	$(call say,FORMAT,$(words $(LINT_FILES)) files)
	$(Q)clang-format --dry-run -Werror $(LINT_FILES)

lint-pages:
	$(call say,PAGES,nothing takes a page for 4096 bytes)
	$(Q)tools/check-pages --self && tools/check-pages

format:
	$(Q)clang-format -i $(LINT_FILES)

lint-tidy: | $(PREPARED)
	$(call say,TIDY,$(words $(SOURCES) $(OTHER_SOURCES)) files)
	@mkdir -p $(B)/tidy-$(OTHER_DIR)
	@printf '%s\n' $(foreach f,$(TIDY_FLAGS),'$(f)') > $(B)/compile_flags.txt
	@printf '%s\n' $(foreach f,$(OTHER_FLAGS),'$(f)') > $(B)/tidy-$(OTHER_DIR)/compile_flags.txt
	$(Q){ printf '%s\n' $(SOURCES) | $(TIDY) $(B) && \
		printf '%s\n' $(OTHER_SOURCES) | $(TIDY) $(B)/tidy-$(OTHER_DIR); } 2>$(B)/tidy.log || \
		{ grep -v 'warnings\? generated\|^Suppressed\|^Use -' $(B)/tidy.log; false; }

lint-cppcheck: | $(PREPARED)
	$(call say,CPPCHK,$(words $(SOURCES)) files)
	$(Q)cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
		--suppress=missingIncludeSystem --suppress=unknownMacro -j $(JOBS) \
		--include=$(B)/autoconf.h -D_GNU_SOURCE -D__linux__ -I. -Iarch/$(ARCH_DIR) $(SOURCES)
