#!/bin/sh
# Make what compose.yaml needs in ./secrets, once. The folder is yours alone; the files in it can be read by the users of
# the containers, who are others. Replace tls_certificate and tls_key by real ones: these are for a first look.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in database_password broker_token; do
    [ -s "secrets/$name" ] || head -c 32 /dev/urandom | base64 >"secrets/$name"
done
[ -s secrets/tls_key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 \
    -subj "/CN=${SKERRY_HOST:-localhost}" -addext "subjectAltName=DNS:${SKERRY_HOST:-localhost}" \
    -keyout secrets/tls_key -out secrets/tls_certificate 2>/dev/null
chmod 444 secrets/*
