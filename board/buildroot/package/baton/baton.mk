################################################################################
#
# baton
#
################################################################################

BATON_VERSION = 0.1
# Where "make dist" in the tree around this one leaves it. A mirror is said with
# BR2_PRIMARY_SITE.
BATON_SITE = file://$(realpath $(BR2_EXTERNAL_BATON_PATH)/../..)/build/dist
BATON_LICENSE = MIT
BATON_LICENSE_FILES = LICENSE

# Their sources are compiled with options of baton's own, so nothing of them
# needs to be built before.
BATON_PATCH_DEPENDENCIES = mbedtls nanopb host-lz4

BATON_KCONFIG_DEPENDENCIES = host-kconfiglib $(BR2_PYTHON3_HOST_DEPENDENCY)

BATON_ARCH = $(if $(BR2_aarch64),arm64,x86_64)

# It is optimised for size by itself, all of it as one.
BATON_MAKE_OPTS = \
	ARCH=$(BATON_ARCH) \
	TOOLCHAIN="$(TARGET_CROSS)" \
	CFLAGS="$(filter-out -O%,$(TARGET_CFLAGS))" \
	LDFLAGS="$(TARGET_LDFLAGS)" \
	WERROR= \
	PYTHON="PYTHONPATH=$(HOST_DIR)/share/kconfiglib python3" \
	MBEDTLS_DIR="$(MBEDTLS_DIR)" \
	NANOPB_DIR="$(NANOPB_DIR)" \
	LZ4_DIR="$(HOST_LZ4_DIR)" \
	PREFIX=/usr

BATON_KCONFIG_DOTCONFIG = build/$(BATON_ARCH)/.config
BATON_KCONFIG_OPTS = $(BATON_MAKE_OPTS)
BATON_KCONFIG_SUPPORTS_DEFCONFIG = NO

ifeq ($(BR2_PACKAGE_BATON_CUSTOM),y)
BATON_KCONFIG_FILE = $(call qstrip,$(BR2_PACKAGE_BATON_CONFIG))
else
BATON_KCONFIG_DEFCONFIG = \
	$(if $(BR2_PACKAGE_BATON_TINY),tiny,gateway)_defconfig
endif

# The libraries of libgcrypt are shared here, and baton is static.
define BATON_KCONFIG_FIXUP_CMDS
	$(call KCONFIG_DISABLE_OPT,CONFIG_CIPHER_LIBGCRYPT)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CIPHER_MBEDTLS)
endef

define BATON_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(BATON_MAKE_OPTS)
endef

define BATON_INSTALL_TARGET_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(BATON_MAKE_OPTS) \
		DESTDIR=$(TARGET_DIR) install
	$(INSTALL) -D -m 0644 $(@D)/board/common/sysctl.conf \
		$(TARGET_DIR)/etc/sysctl.d/baton.conf
endef

define BATON_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(BATON_PKGDIR)/S99baton \
		$(TARGET_DIR)/etc/init.d/S99baton
endef

define BATON_INSTALL_INIT_SYSTEMD
	for unit in $(TARGET_DIR)/usr/lib/baton/*.service; do \
		$(INSTALL) -D -m 0644 $$unit \
			$(TARGET_DIR)/usr/lib/systemd/system/$${unit##*/} || exit 1; \
		rm $$unit; \
	done
endef

$(eval $(kconfig-package))
