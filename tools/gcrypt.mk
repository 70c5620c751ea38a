# SPDX-License-Identifier: MIT
# Builds libgcrypt, static, and libgpg-error, which it needs, into OUT/include and OUT/lib:
# make -f tools/gcrypt.mk SRC= ERR= OUT= HOST= CC= CFLAGS= AR= RANLIB= (whole paths; HOST as configure takes it)
# Of all that it can, the two ciphers that TLS uses; the digests are those that the rest refers to.

# Tools that would make configure anew, were it older than what it is made from, do nothing.
configure = CC='$(CC)' CFLAGS='$(CFLAGS)' AR='$(AR)' RANLIB='$(RANLIB)' ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=: \
	$(1)/configure --host=$(HOST) --prefix=$(OUT) --disable-shared --enable-static --disable-doc

GCRYPT_OPTIONS := --disable-padlock-support --disable-jent-support --disable-instrumentation-munging \
	--enable-random=getentropy --enable-ciphers='aes chacha20' --enable-pubkey-ciphers= \
	--enable-digests='sha256 sha512 blake2 sha3'
ERROR_OPTIONS := --enable-threads=no --disable-nls --disable-languages --disable-tests

# The library in src comes last.
PARTS := compat mpi cipher random

$(OUT)/lib/libgcrypt.a: $(OUT)/lib/libgpg-error.a
	@rm -rf $(OUT)/libgcrypt && mkdir -p $(OUT)/libgcrypt
	@cd $(OUT)/libgcrypt && GPGRT_CONFIG=$(OUT)/bin/gpgrt-config \
		$(call configure,$(SRC)) --with-libgpg-error-prefix=$(OUT) $(GCRYPT_OPTIONS) >configure.log 2>&1 \
		|| { tail -n 20 configure.log >&2; exit 1; }
	@for part in $(PARTS); do $(MAKE) -C $(OUT)/libgcrypt/$$part || exit 1; done >$(OUT)/libgcrypt/make.log 2>&1 \
		&& $(MAKE) -C $(OUT)/libgcrypt/src libgcrypt.la >>$(OUT)/libgcrypt/make.log 2>&1 \
		|| { tail -n 20 $(OUT)/libgcrypt/make.log >&2; exit 1; }
	@cp $(OUT)/libgcrypt/src/gcrypt.h $(OUT)/include
	@cp $(OUT)/libgcrypt/src/.libs/libgcrypt.a $@

$(OUT)/lib/libgpg-error.a:
	@rm -rf $(OUT)/libgpg-error && mkdir -p $(OUT)/libgpg-error
	@cd $(OUT)/libgpg-error && $(call configure,$(ERR)) $(ERROR_OPTIONS) >configure.log 2>&1 \
		|| { tail -n 20 configure.log >&2; exit 1; }
	@$(MAKE) -C $(OUT)/libgpg-error/src install >$(OUT)/libgpg-error/make.log 2>&1 \
		|| { tail -n 20 $(OUT)/libgpg-error/make.log >&2; exit 1; }
