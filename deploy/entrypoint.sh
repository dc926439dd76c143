#!/bin/sh
# Files that the programs make are nobody else's business.
umask 0077
exec "$@"
