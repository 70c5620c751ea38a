# SPDX-License-Identifier: MIT
# The configuration: $(B)/.config, edited by people; auto.conf and autoconf.h, made from it.

# kconfiglib leaves autoconf.h alone when nothing in it changes, so that nothing is built anew; hence
# make must not compare its time with Kconfig's.
$(B)/autoconf.h: | $(B)/auto.conf
	$(Q)$(KCONFIG) genconfig --header-path $@ --config-out $(B)/auto.conf Kconfig

# board/NAME/defconfig; where each architecture has its own, that of this one: gateway is gateway-arm64.
defconfig_of = $(firstword $(wildcard board/$(1)/defconfig board/$(1)-$(ARCH)/defconfig))
# The architecture that a board's name ends with, when that is not the one to build for.
foreign = $(filter-out $(ARCH),$(filter x86_64 arm64,$(lastword $(subst -, ,$(1)))))
need_defconfig = $(if $(call foreign,$(1)),$(error board/$(1) is for another architecture: \
	make ARCH=$(call foreign,$(1)) ...),$(or $(call defconfig_of,$(1)),$(error there is no board/$(1)/defconfig)))
# What a build begins with: that of CONFIG=, or the defaults of Kconfig.
BEGIN = $(if $(CONFIG),defconfig --kconfig Kconfig $(call need_defconfig,$(CONFIG)),alldefconfig Kconfig)

# A configuration that nobody touched follows what it began with when that changes.
$(B)/auto.conf: $(B)/.config Kconfig $(if $(CONFIG),$(call defconfig_of,$(CONFIG)))
	$(Q)$(PYTHON) -c 'import kconfiglib' 2>/dev/null || \
		{ echo "python3-kconfiglib is missing; run 'make setup'" >&2; exit 1; }
	@if cmp -s $(B)/.config $(B)/.default; then $(KCONFIG) $(BEGIN) >/dev/null; fi
	$(Q)$(KCONFIG) genconfig --header-path $(B)/autoconf.h --config-out $(B)/auto.conf Kconfig
	@KCONFIG_CONFIG=$(B)/.default $(PYTHON) -m $(BEGIN) >/dev/null
	@if cmp -s $(B)/auto.conf $(B)/.default; then touch $(B)/.config.is_default; else rm -f $(B)/.config.is_default; fi
	@touch $(B)/auto.conf

$(B)/.config:
	@mkdir -p $(B)
	@$(PYTHON) -c 'import kconfiglib' 2>/dev/null || \
		{ echo "python3-kconfiglib is missing; run 'make setup'" >&2; exit 1; }
	$(call say,CONFIG,$@ ($(or $(CONFIG),defaults)))
	$(Q)$(KCONFIG) $(BEGIN) >/dev/null

.PHONY: menuconfig defconfig olddefconfig savedefconfig
menuconfig: | $(B)
	$(Q)$(KCONFIG) menuconfig Kconfig

defconfig: | $(B)
	$(Q)$(KCONFIG) alldefconfig Kconfig

olddefconfig: | $(B)
	$(Q)$(KCONFIG) olddefconfig Kconfig

savedefconfig: $(B)/.config
	$(Q)$(KCONFIG) savedefconfig --kconfig Kconfig --out $(B)/defconfig
	@echo "$(B)/defconfig"

%_defconfig: | $(B)
	$(Q)$(KCONFIG) defconfig --kconfig Kconfig $(call need_defconfig,$*)
