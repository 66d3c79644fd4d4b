#!/bin/sh
# Prints the Debian packages of this file system as a CycloneDX document.
set -eu
component='{"type":"library","name":"${binary:Package}","version":"${Version}","description":"${Architecture}"}\n'
printf '{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":['
dpkg-query --show --showformat="$component" | paste --serial --delimiters=,
printf ']}\n'
