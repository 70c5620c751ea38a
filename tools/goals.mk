# SPDX-License-Identifier: MIT
# The goals for people.

.PHONY: print-binary
print-binary:
	@echo $(B)/baton
