#!/bin/sh
# Deploys certificates to a shelf, for certdeploy's connector `exec`. Needs curl 7.62 or later, and jq 1.6 or later.
#
# Settings: `url` (https), `listener`, and `ca_file` where the shelf's certificate is not signed by a public authority.
# Secrets: `token`.
#
# Token and key are in no argument, no variable of the environment and no file: the request stays in a variable of this
# shell, goes to jq through a pipe, and what jq makes of it goes to curl through a pipe, as a configuration.

set -eu

main() {
    started=$(date +%s)
    request=$(cat)
    # A printf that is a program of its own would show its arguments to everybody.
    [ "$(command -v printf)" = printf ] || fail configuration_invalid "printf is not built into this shell"
    read_request
    case $operation in
        describe)
            result '{ name: "shelf.sh", version: "1.0", protocols: [1], capabilities: { validate: true, prune: true } }'
            ;;
        observe | validate | snapshot | upload | activate | restore | prune)
            [ -z "$problem" ] || fail configuration_invalid "$problem"
            "$operation"
            ;;
        *) fail plan_invalid "the operation $operation is not known here" ;;
    esac
}

# What is not secret, once and for all.
read_request() {
    facts=$(ask '.operation,
        (if (.settings.url | tostring | startswith("https://") | not) then "`settings.url` does not start with https://"
            elif (.settings.listener | type != "string" or length == 0) then "`settings.listener` is missing"
            elif (.secrets.token // "" | test("^[!-~]+$") | not) then "the secret `token` is missing, or has characters that no token has"
            else "" end),
        "/v1/listeners/\(.settings.listener | tostring | @uri)",
        .target,
        "certdeploy-\(.certificate.fingerprint // "")",
        .revision // "",
        (.deadline_seconds - 0.5 | floor)')
    {
        IFS= read -r operation
        IFS= read -r problem
        IFS= read -r listener
        IFS= read -r target
        IFS= read -r name
        IFS= read -r revision
        IFS= read -r seconds
    } <<FACTS
$facts
FACTS
}

observe() {
    look
    if [ "$live" = null ]; then
        result '{ fingerprint: null, revision: $revision }' --arg revision "$seen"
    else
        list
        found=$(of_list '.[] | select(.id == $live) | .fingerprint' --argjson live "$live")
        [ -n "$found" ] || fail conflict "the certificate $live went away while the shelf was looked at"
        result '{ fingerprint: $found, revision: $revision }' --arg found "$found" --arg revision "$seen"
    fi
}

validate() {
    call POST /v1/check '{ json: { fullchain: .certificate.fullchain, key: .certificate.key } }'
    [ "$status" = 422 ] && refuse validate_failed
    succeed
    result '{ checked: "pair" }'
}

# The shelf keeps the certificate and its key; its name is enough to go back.
snapshot() {
    look
    result '{ version: 1, data: ({ certificate: $live } | tojson | @base64) }' --argjson live "$live"
}

upload() {
    list
    found=$(of_list '.[] | select(.id == $name)' --arg name "$name")
    if [ -z "$found" ]; then
        call PUT "/v1/certificates/$name" '{ json: { fullchain: .certificate.fullchain, labels: { "managed-by": "certdeploy", target } } }'
        [ "$status" = 422 ] && refuse material_rejected
        succeed
    elif [ "$(printf '%s' "$found" | jq -r .fingerprint)" != "${name#certdeploy-}" ]; then
        fail plan_invalid "another certificate has the name $name" never "remove it from the shelf"
    elif [ "$(printf '%s' "$found" | jq -r .complete)" = true ]; then
        result '{}'
        exit
    fi
    # An upload that ended between its two requests is completed here.
    call PUT "/v1/certificates/$name/key" '{ text: .certificate.key }'
    [ "$status" = 422 ] && refuse material_rejected
    succeed
    result '{}'
}

activate() {
    if [ -z "$revision" ]; then
        look
        revision=$seen
    fi
    switch "\"$name\"" "$revision"
    if [ "$status" = 409 ] || [ "$status" = 412 ]; then
        # An earlier try may have switched, and its answer was lost.
        refused=$status
        look
        [ "$live" = "\"$name\"" ] || fail conflict "PUT $listener: $refused, and $live is live"
    else
        succeed
    fi
    result '{}'
}

restore() {
    before=$(ask '.snapshot.data | @base64d | fromjson | .certificate | tojson')
    look
    if [ "$live" != "$before" ]; then
        list
        # Of what is live, this says whether it is ours. Nothing is nobody's.
        ours=$(of_list '($live == null) or any(.[]; .id == $live and '"$is_ours"')' --argjson live "$live" --arg target "$target")
        [ "$ours" = true ] || fail conflict "somebody else has switched the listener to $live, and that is left as it is"
        switch "$before" "$seen"
        succeed
    fi
    result '{}'
}

prune() {
    look
    list
    for unused in $(of_list '.[] | select(.id != $live and '"$is_ours"') | .id | @uri' --argjson live "$live" --arg target "$target"); do
        call DELETE "/v1/certificates/$unused"
        # 409: another listener uses it. 404: somebody else was faster.
        [ "$status" = 404 ] || [ "$status" = 409 ] || succeed
    done
    result '{}'
}

is_ours='.labels["managed-by"] == "certdeploy" and .labels.target == $target'

# Sets `live`, a JSON string or null, and `seen`, the revision.
look() {
    call GET "$listener"
    [ "$status" = 404 ] && refuse plan_invalid
    succeed
    live=$(printf '%s' "$body" | jq '.certificate') || fail unavailable "GET $listener: the answer is not JSON"
    seen=$(header etag)
}

# Sets `certificates`.
list() {
    call GET /v1/certificates
    succeed
    certificates=$body
}

of_list() {
    filter=$1
    shift
    printf '%s' "$certificates" | jq -r "$@" "$filter"
}

# switch NAME REVISION: the name is a JSON string or null.
switch() {
    call PUT "$listener" '{ json: { certificate: $name }, header: "If-Match: \($revision)" }' --argjson name "$1" --arg revision "$2"
}

# call METHOD PATH [FILTER [JQ-ARGUMENT...]]: sets `status`, `body` and `head`. The filter turns the request of the engine into
# { json or text, header }. jq writes strings as curl reads them in a configuration, but for characters that PEM does not have.
call() {
    method=$1 path=$2 filter=${3:-'{}'}
    shift "$(($# < 3 ? $# : 3))"
    left=$((seconds + started - $(date +%s)))
    [ "$left" -gt 0 ] || fail timeout "$method $path: no time is left" later
    code=0
    reply=$(
        ask '. as $request | ('"$filter"') as $call
            | (if $call.json then ["application/json", ($call.json | tojson)] elif $call.text then ["text/plain", $call.text] else null end) as $body
            | ("url = \($request.settings.url | rtrimstr("/") + $path | tojson)",
                "header = \("Authorization: Bearer " + $request.secrets.token | tojson)",
                ($request.settings.ca_file // empty | "cacert = \(tojson)"),
                ($call.header // empty | "header = \(tojson)"),
                ($body // empty | "header = \("Content-Type: " + .[0] | tojson)", "data-raw = \(.[1] | tojson)"))' \
            --arg path "$path" "$@" |
            curl -q --config - --request "$method" --max-time "$left" --header 'Expect:' --proto '=https' --http1.1 \
                --globoff --include --suppress-connect-headers --silent --show-error
    ) || code=$?
    [ "$code" = 0 ] || unanswered "$code"
    reply=$(printf '%s' "$reply" | tr -d '\r')
    status=$(printf '%s\n' "$reply" | sed -n '1s/^HTTP[^ ]* \([0-9]*\).*/\1/p')
    head=$(printf '%s\n' "$reply" | sed '/^$/,$d')
    body=$(printf '%s\n' "$reply" | sed '1,/^$/d')
}

header() {
    printf '%s\n' "$head" | awk -v name="$1" '{ key = tolower($0); sub(/:.*/, "", key) } key == name { sub(/^[^:]*: */, ""); print; exit }'
}

# The last answer has to be a success.
succeed() {
    case $status in
        2??) ;;
        401) refuse unauthenticated ;;
        403) refuse permission_denied ;;
        409 | 412) refuse conflict ;;
        429) refuse rate_limited "$(retry_after)" ;;
        5??) refuse unavailable "$(retry_after)" ;;
        *) refuse plan_invalid ;;
    esac
}

refuse() {
    said=$(printf '%s' "$body" | jq -r '.error // "" | tostring' 2>/dev/null) || said=
    permission=$(printf '%s' "$body" | jq -r '.permission // "" | tostring' 2>/dev/null) || permission=
    if [ -n "$permission" ]; then
        fail "$1" "$method $path: $status $said (the token lacks $permission)" never "give the token the permission $permission"
    fi
    fail "$1" "$method $path: $status $said" "${2:-never}"
}

# Seconds, or a date, which is not worth the trouble here.
retry_after() {
    seconds=$(header retry-after)
    case $seconds in
        '' | *[!0-9]* | ??????*) echo later ;;
        *) echo "{ \"after_seconds\": $seconds }" ;;
    esac
}

# What curl's exit statuses mean is in its manual.
unanswered() {
    ca="see whether \`settings.url\` is right, and whether \`settings.ca_file\` names the authority of the shelf"
    case $1 in
        28) fail timeout "$method $path: no answer in time" later ;;
        51 | 60) fail unavailable "$method $path: the shelf is not who it should be" never "$ca" ;;
        77) fail configuration_invalid "\`settings.ca_file\` cannot be used" ;;
        # It may have been carried out: everything here can be said twice.
        5 | 6 | 7 | 16 | 18 | 35 | 52 | 55 | 56) fail unavailable "$method $path: no answer (curl: exit status $1)" later ;;
        *) fail unavailable "$method $path: curl ended with exit status $1" ;;
    esac
}

# ask FILTER [JQ-ARGUMENT...]: of the request.
ask() {
    of_request=$1
    shift
    printf '%s' "$request" | jq -r "$@" "$of_request"
}

# result FILTER [JQ-ARGUMENT...]
result() {
    value=$1
    shift
    jq -nc "$@" "{ protocol: 1, result: ($value) }"
}

# fail KIND MESSAGE [RETRY [NEXT-STEP]]. Not to be used in $(...), which it would not leave.
fail() {
    case ${3:-never} in '{'*) retry=$3 ;; *) retry="\"${3:-never}\"" ;; esac
    jq -nc --arg kind "$1" --arg message "$2" --argjson retry "$retry" --arg next "${4:-}" \
        '{ protocol: 1, error: ({ $kind, $message, $retry } + if $next == "" then {} else { next_step: $next } end) }'
    exit 0
}

main
