################################################################################
#
# kconfiglib
#
################################################################################

KCONFIGLIB_VERSION = 14.1.0
KCONFIGLIB_SITE = https://snapshot.debian.org/archive/debian/20230701T000000Z/pool/main/k/kconfiglib
KCONFIGLIB_SOURCE = kconfiglib_$(KCONFIGLIB_VERSION).orig.tar.gz
KCONFIGLIB_LICENSE = ISC
KCONFIGLIB_LICENSE_FILES = LICENSE.txt

# Modules for whichever python3 runs them (PYTHONPATH).
define HOST_KCONFIGLIB_INSTALL_CMDS
	$(INSTALL) -D -m 0644 -t $(HOST_DIR)/share/kconfiglib $(@D)/*.py
endef

$(eval $(host-generic-package))
