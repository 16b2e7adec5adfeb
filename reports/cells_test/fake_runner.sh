#!/bin/sh
# Stands for a variant's runner in tests that look at actions and run none.
exit 1
