#!/usr/bin/env bash
# Creates or updates the log-based metrics and the alert policies of a project. Nothing else of it is touched.
#
# Usage: deploy/monitoring/apply.sh PROJECT metrics
#        deploy/monitoring/apply.sh PROJECT alerts CHANNEL
#
# CHANNEL is the id of a notification channel: the last part of what this prints:
#   gcloud beta monitoring channels list --project=PROJECT --format='value(name)'
# Metrics count from the moment they exist, so make them first; alerts belong to phase C of docs/rollout.md.
# DRY_RUN=1 prints the commands that would write, with the files they would use. Exit codes: 0, 1 (gcloud failed), 2 (usage).
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,11s/^# \{0,1\}//p' apply.sh >&2; exit 2; }

[ $# -ge 2 ] || usage
project=$1 what=$2 channel=${3:-}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

run() { if [ -n "${DRY_RUN:-}" ]; then printf '%s\n' "$*"; else "$@"; fi; }

apply_metrics() {
    local file name verb
    for file in metrics/*.yaml; do
        name=$(sed -n 's/^name: //p' "$file")
        verb=create
        if gcloud logging metrics describe "$name" --project="$project" >/dev/null 2>&1; then verb=update; fi
        run gcloud logging metrics "$verb" "$name" --project="$project" --config-from-file="$file"
    done
}

apply_alerts() {
    local file title policy track=
    # Versions of gcloud up to the middle of 2025 have these commands as alpha only.
    gcloud monitoring policies --help >/dev/null 2>&1 || track=alpha
    for file in alerts/*.yaml; do
        sed "s|projects/PROJECT/notificationChannels/CHANNEL|projects/$project/notificationChannels/$channel|" "$file" \
            >"$work/policy.yaml"
        title=$(sed -n 's/^displayName: "\(.*\)"$/\1/p' "$file")
        policy=$(gcloud $track monitoring policies list --project="$project" --filter="displayName=\"$title\"" --format='value(name)')
        if [ -n "$policy" ]; then
            run gcloud $track monitoring policies update "$policy" --project="$project" --policy-from-file="$work/policy.yaml"
        else
            run gcloud $track monitoring policies create --project="$project" --policy-from-file="$work/policy.yaml"
        fi
    done
}

case "$what" in
metrics) apply_metrics ;;
alerts)
    [ -n "$channel" ] || usage
    apply_alerts
    ;;
*) usage ;;
esac
