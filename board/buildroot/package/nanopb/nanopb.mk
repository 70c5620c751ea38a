################################################################################
#
# nanopb
#
################################################################################

NANOPB_VERSION = 0.4.7
NANOPB_SITE = https://snapshot.debian.org/archive/debian/20230701T000000Z/pool/main/n/nanopb
NANOPB_SOURCE = nanopb_$(NANOPB_VERSION).orig.tar.gz
NANOPB_LICENSE = Zlib
NANOPB_LICENSE_FILES = LICENSE.txt

$(eval $(generic-package))
