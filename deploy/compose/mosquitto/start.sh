#!/bin/sh
# The broker's password file, hashed, of the secret; then the broker.
set -eu
umask 077
config="${CONFIG:-/mosquitto/config/mosquitto.conf}"
passwords="${PASSWORDS:-/tmp/passwords}"
printf 'vad:%s\n' "$(cat "${SECRET:-/run/secrets/mqtt_password}")" > "$passwords"
mosquitto_passwd -U "$passwords"
exec mosquitto -c "$config"
