# What ghl-auth says in English. Each sentence stands in pt-BR too; a test compares the two.

## The check, in the order in which it speaks

exchanging = Exchanging the authorization code...
tokens-loaded = Tokens loaded and valid.
refreshing = Access token due for renewal. Refreshing...
refreshed = Token refreshed and saved.
tokens-saved = Tokens saved.
access-token = Access Token (partial): { $start }...
refresh-token = Refresh Token (partial): { $start }...
scopes = Scopes: { $scopes }
expires = Expires at: { $at }
reading = Testing a call to the Contacts API...
attempt = Attempt { $number }/{ $of }...
trying-again = Trying again: { $said }
read = Call to the Contacts API succeeded.
tag-removed = The tag left over from the last run was removed.
tag-added = Tag '{ $tag }' added to contact '{ $contact }'!
operational = Microservice operational. Health notification triggered by tag.
operational-read-only = Microservice operational. Read-only check: no tag was added.
waiting-for-workflow = Waiting up to { $seconds } s for the workflow to remove the tag...
workflow-ran = The workflow removed the tag after { $after }: the whole path is proven.

## Words within sentences

label-warning = warning:
label-error = error:
label-action = What to do:
label-code = (code: { $code })
whose-location = location { $id }
whose-company = company { $id }
step-token = getting a token
step-read = reading
step-remove_tag = removing the tag
step-add_tag = adding the tag
step-workflow = watching the workflow

## Warnings

warning-cleaned = These variables came with quotes or comments, as `docker run --env-file` passes them, and were cleaned: { $names }. Remove the quotes and comments to silence this.
warning-env-mode = Others on this machine can read { $path }, which holds secrets. Run: chmod 600 { $path }
warning-env-line = { $path }, line { $line } is no NAME=value and was skipped.
warning-refresh-failed = The token is valid until { $until }, but it could not be refreshed: { $why }
warning-tag-still-there = The tag was still on the contact: the workflow did not run, or did not remove it. Check that the workflow is published and that its last action is "Remove Tag".
warning-nobody-is-told = Read-only check: without both GHL_HEALTH_CHECK_CONTACT_ID and GHL_HEALTH_CHECK_TAG_NAME, and a location's token, no workflow can tell anyone that the service is alive.
warning-check-scopes-missing = The grant lacks scopes that this check needs: { $scopes }. Add them to the marketplace app and to GHL_SCOPES, then authorize again with `ghl-auth login`.
warning-scopes-missing = The app on { $id } lacks scopes that GHL_SCOPES asks for: { $scopes }. Someone has to reinstall it there: { $link }
warning-scopes-missing-no-link = The app on { $id } lacks scopes that GHL_SCOPES asks for: { $scopes }. Someone has to reinstall it there, with `ghl-auth login`.
warning-stays-root = The tokens belong to root, so this keeps running as root. Give the file to the user who should own it (chown) to change that.
warning-in-place = The token file is mounted by itself, so it is rewritten in place: a program that reads it in the very moment of a refresh may find it incomplete. Mount its folder instead to avoid that.
warning-exported = What was just written holds live tokens. Only one program may refresh them: stop using this store before another program takes over.
warning-cut-short = { $path } was cut short, as the Python template leaves it; both tokens were whole and nothing was lost.
warning-other-location = HighLevel granted { $got }, but GHL_LOCATION_ID means { $wanted }. The grant was kept. Set GHL_LOCATION_ID to the location you chose, or run `ghl-auth login` again and choose the other one.
warning-wanted-location = HighLevel granted { $got }, but GHL_USER_TYPE asks for a location. The grant was kept. In the marketplace app set the target user to "Sub-account", or install from the sub-account instead of the agency; or set GHL_USER_TYPE=Company.
warning-wanted-company = HighLevel granted { $got }, but GHL_USER_TYPE asks for a company. The grant was kept. In the marketplace app set the target user to "Agency", or set GHL_USER_TYPE=Location.
login-locations = { $count ->
    [0] HighLevel lists no location of this company with the app yet. New ones are found by `ghl-auth serve` within the hour.
    [one] HighLevel lists one location of this company with the app. `ghl-auth serve` fetches its token; `ghl-auth token --location ID` has it at once.
   *[other] HighLevel lists { $count } locations of this company with the app. `ghl-auth serve` fetches their tokens; `ghl-auth token --location ID` has one at once.
  }
login-locations-no-room = { $count ->
    [one] HighLevel lists one location of this company with the app. A file has room for the company's tokens alone: to keep the location's too, set GHL_STORE=sqlite:ghl.db and log in again.
   *[other] HighLevel lists { $count } locations of this company with the app. A file has room for the company's tokens alone: to keep the locations' too, set GHL_STORE=sqlite:ghl.db and log in again.
  }
warning-no-list = The company's grant was saved, but its locations can't be listed; the app needs the scopes oauth.readonly and oauth.write for that. { $why }
warning-no-listener = Could not listen on { $address } for the redirect: { $why }. Paste the address instead.

## Logging in

login-open = Open this address, choose the location and allow the app:
login-waiting = Waiting for the redirect to { $uri }. If it does not come by itself, paste here the address your browser shows afterwards.
login-paste = Your browser then shows an address with "code=" in it. Paste the whole address, or the code, here at once: it lives for seconds only.
connected = Connected: { $id }. It will be kept alive from now on.
callback-thanks = Connected. You may close this window.
callback-refused = This is not the redirect that ghl-auth waits for. Start again with `ghl-auth login`.
callback-page = <!doctype html><html lang="en"><meta charset="utf-8"><title>ghl-auth</title><body style="font-family:sans-serif;margin:4rem;font-size:1.2rem"><p>{ $title }</p></body></html>

## Other commands

imported = Imported { $id }; its token is valid until { $until }.
import-did = Imported: { $taken } ({ $format }). Here already: { $present }. Refused: { $refused }.
import-would = Would be imported: { $taken } ({ $format }). Here already: { $present }. Would be refused: { $refused }. Nothing was changed.
import-refused = Entry { $entry } was refused: { $why }
import-refused-named = Entry { $entry } ({ $whose }) was refused: { $why }
import-refused-more = And { $count } more; --json lists all of them.
backup-done = { $count ->
    [one] One installation is in { $path }, sealed under GHL_AUTH_KEY: keep the key elsewhere.
   *[other] { $count } installations are in { $path }, sealed under GHL_AUTH_KEY: keep the key elsewhere.
  }
restore-done = { $count ->
    [one] One installation read
   *[other] { $count } installations read
  }, { $put } of them put into { $place }; { $landed ->
    [one] one answer was newer than the backup.
   *[other] { $landed } answers were newer than the backup.
  }
restore-standby = The store is on standby: tokens that still live are served, and nothing is refreshed. Once the store that was backed up is out of use for good: ghl-auth restore --take-over
restore-in-service = { $place } is in service and keeps its grants from now on.
take-over-word = take over
take-over-question = From now on { $place } refreshes its grants. If the store that it was copied from refreshes them too, both lose them. Once that one is out of use for good, type: { $word }
migrate-done = { $count ->
    [one] One installation moved from { $from } to { $to }. Set GHL_STORE to the new store; the old one stays on standby.
   *[other] { $count } installations moved from { $from } to { $to }. Set GHL_STORE to the new store; the old one stays on standby.
  }
migrate-done-before = Everything was moved from { $from } to { $to } before. Set GHL_STORE to the new store; the old one stays on standby.
migrate-given-up = { $from } is in service again, and { $to } is on standby.
rotate-all-begins = Getting new tokens for every grant whose tokens are from before { $since }. If this is cut short, go on with: ghl-auth rotate-all --since { $since }
rotate-all-goes-on = Going on with what was begun at { $since } and cut short: grants with newer tokens are skipped. To begin anew instead: ghl-auth rotate-all --since { $now }
rotate-all-done = Rotated: { $rotated }. Had newer tokens already: { $skipped }. Failed: { $failed }.
rotate-all-failed = { $id } was not rotated: { $why }
rotate-all-again = Try those that failed once more with: ghl-auth rotate-all --since { $since }
progress-backup = Backing up
progress-restore = Restoring
progress-migrate = Moving
progress-import = Importing
progress-rotate-all = Rotating
warning-standby = { $place } is on standby: { $why }. Tokens that still live are served; nothing is refreshed or taken in.
standby-moving = its grants are on their way to { $place }
standby-moved = its grants were moved to { $place }
standby-being-filled = grants from { $place } are being copied into it
standby-given-up = its grants stayed at { $place }
standby-restored = it was restored from { $place }
refreshed-one = Refreshed { $id }; its token is valid until { $until }.
status-empty = There is no grant in { $store } yet. Run: ghl-auth login
status-none = No installation is as you ask.
status-more = There are more: see --limit, --all, --company, --state and --search.
status-no-company = no company
status-unlisted = { $id } is no longer in HighLevel's list of installed locations since { $at }. Its tokens are kept and refreshed all the same.
count-companies = { $count ->
    [one] 1 company
   *[other] { $count } companies
  }
count-locations = { $count ->
    [one] 1 location
   *[other] { $count } locations
  }
count-connected = { $count } connected
count-uncertain = { $count } without an answer to the last refresh
count-suspended = { $count } suspended
count-broken = { $count } in need of a person
count-unlisted = { $count } no longer in HighLevel's list
rotated = { $count ->
    [0] Everything is under the key { $key } already.
    [one] One record was sealed anew, and everything is under the key { $key }.
   *[other] { $count } records were sealed anew, and everything is under the key { $key }.
  }
rotated-old-keys = The old key can be removed now: empty GHL_AUTH_OLD_KEYS wherever this store is used, and keep the key as long as you keep backups that were made under it.
status-app = App { $app }
head-installation = Installation
head-health = Health
head-token = Token
head-generation = Generation
head-check = Last check
health-unknown = not checked yet
health-operational = operational
health-degraded = degraded
health-down = down
health-suspended = suspended
health-needs-person = needs a person
token-lives = valid for { $span }
token-expired = expired at { $at }
ago = { $span } ago
never = never
schedule-installed = The check will run every { $hours } h.
schedule-removed = The check is no longer scheduled.
schedule-none = The check is not scheduled. Run: ghl-auth schedule install
sandbox-env = Wrote { $path }. Try: ghl-auth --env-file { $path } login
sandbox-ready = The sandbox listens on { $url } until Ctrl-C. Help for faults and its ledger: curl { $url }/_sandbox
demo-begins = A sandbox HighLevel runs on { $url }. Nothing leaves this machine.
    The tokens rest sealed in { $folder }.
demo-login = $ ghl-auth login
demo-check = $ ghl-auth check --wait-for-workflow 20s
demo-status = $ ghl-auth status
demo-serve = $ ghl-auth serve
demo-ask = Any program may now ask for a token with its key:
demo-asked = The service answered with a valid token.
demo-pass = Or it may leave the token to the gateway, and ask HighLevel itself through it:
demo-passed = HighLevel's answer came through the gateway.
demo-not-passed = no answer came through the gateway
demo-goes-on = Try it from another terminal. Ctrl-C ends the service and the sandbox.
demo-not-answered = the service did not answer with a token
demo-message = The workflow sent { $count ->
    [one] one message
   *[other] { $count } messages
  } saying that the service is alive.
demo-ends = That was the whole job. Next: put your app's credentials into .env (see .env.example) and run `ghl-auth login`.
    The demo's database stays in { $folder } until you delete it.

## Configuration

config-fault =
    {"  "}{ $name }: { $problem }
    {"    "}{ $meaning }
    {"    "}Example: { $example }
missing = it is not set.
bad-store-kind = it is none of file:PATH, sqlite:PATH and postgres://USER@HOST/DATABASE.
bad-store-path = there is no path after the colon.
bad-store-address = it is no well-formed address: postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password.
bad-store-host = the address names no host: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
bad-store-user = the address names no user: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
bad-store-pool = `pool`, the number of connections, must be from 1 to 1000.
bad-store-schema = `schema` must be a name of small letters, digits and _.
bad-store-sslmode = `sslmode` must be verify-full or, on this machine only, disable.
bad-store-parameter = the address has the unknown parameter `{ $name }`.
bad-store-unverified = a database on another machine needs sslmode=verify-full, so that nobody can listen or pretend to be it; where its certificate is of your own authority, add sslrootcert=FILE.pem.
bad-store-apps = a file holds one app's grant, and the app { $app } needs a place of its own; use sqlite:PATH or postgres://.
bad-app-name = `{ $value }` is no name of an app: 1 to 32 of a to z, 0 to 9 and -.
bad-app-taken = `{ $value }` stands for something else already; give the app another name.
bad-app-twice = `{ $value }` is there twice.
bad-base-no-url = it is no URL with a host.
bad-base-clear-text = it must be https, because tokens travel there; http is for loopback only.
bad-base-too-much = it may hold nothing but scheme, host, port and path.
bad-key-base64 = it is not base64.
bad-key-length = a key is 32 bytes in base64; the length of this one is { $length }.
bad-key-equal = all its bytes are equal: that is a placeholder, not a key.
bad-version = `{ $value }` is neither 2021-07-28 nor v3.
bad-url = `{ $value }` is no address with a scheme and a host.
bad-lang = `{ $value }` is neither en nor pt-BR.
bad-log = `{ $value }` is no level (error, warn, info, debug, trace) and no filter.
bad-log-format = `{ $value }` is neither human nor json.
bad-user-type = `{ $value }` is neither Location nor Company.
bad-id = `{ $value }` is no id: 1 to 64 letters and digits.
bad-interval = `{ $value }` is no whole number of hours from 1 to 720.
bad-secret-file = { $path }, which holds it, can't be read: { $why }.
bad-secret-mode = { $path }, which holds it, can be read by others (mode { $mode }). Run: chmod 600 { $path }
bad-secret-no-file = { $path }, which is to hold it, is no regular file. Name a file with nothing but the secret in it.
bad-secret-folder = others may put their own file in the place of { $path } (its folder has mode { $mode }). Run: chmod go-w { $folder }
bad-listen-folder = others may put their own socket in the place of { $path } (its folder has mode { $mode }). Run: chmod go-w { $folder }
var-GHL_CLIENT_ID = The marketplace app's client id.
var-GHL_CLIENT_SECRET = The marketplace app's client secret; several, separated by commas, while you change it: the old one first.
var-GHL_REDIRECT_URI = The redirect address registered in the marketplace app.
var-GHL_LOCATION_ID = The sub-account (location) meant when a command names none; see Settings > Company Profile.
var-GHL_HEALTH_CHECK_CONTACT_ID = The contact that the health check reads and tags.
var-GHL_HEALTH_CHECK_TAG_NAME = The tag whose workflow tells you that the service is alive.
var-MICROSERVICE_NAME = The name under which this service speaks.
var-RUN_INTERVAL_HOURS = Hours between two checks.
var-GHL_AUTHORIZATION_CODE = A first authorization code, exchanged once by the first check.
var-GHL_APPS = More marketplace apps, by names separated by commas. The app NAME has settings of its own: GHL_APP_NAME_CLIENT_ID and so on.
var-GHL_APP = The app meant when a command names none.
var-GHL_STORE = Where the tokens rest: file:PATH, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full.
var-GHL_AUTH_KEY = The key that seals the tokens: 32 random bytes in base64 (openssl rand -base64 32). Required for sqlite: and postgres:.
var-GHL_AUTH_OLD_KEYS = Earlier keys, separated by commas, that may still open what they sealed.
var-GHL_AUTH_SPOOL = With postgres:, the folder in which new tokens land before they are saved; it has to outlive the program.
var-GHL_API_BASE_URL = HighLevel's API.
var-GHL_AUTHORIZE_URL = HighLevel's consent page, or your app's install link.
var-GHL_API_VERSION = The API version that this program speaks: 2021-07-28 or v3.
var-GHL_USER_TYPE = The class of grant: Location or Company.
var-GHL_SCOPES = The scopes to ask for, separated by spaces; without it, the app's own.
var-GHL_PRIVATE_TOKEN = A Private Integration Token instead of an app: it is checked, and never refreshed.
var-GHL_AUTH_LANG = The language: en or pt-BR.
var-GHL_AUTH_LOG = What is logged: error, warn, info, debug or trace.
var-GHL_AUTH_LOG_FORMAT = The form of the log: human or json.

## Errors: what happened, and what to do

error-configuration = { $count ->
    [one] One setting is wrong; nothing was contacted.
   *[other] { $count } settings are wrong; nothing was contacted.
  }
    { $list }
    .action = Set them in .env or in the environment (.env.example explains each), and run this again.
error-env_file = { $path } can't be read: { $why }
    .action = Check the path behind --env-file and who may read it.
error-owner = Could not become the owner of { $place }: { $why }
    .action = Start the program as the owner of that file, for example with `docker run --user`.
error-certificates = The certificates in SSL_CERT_FILE can't be used: { $why }
    .action = Point SSL_CERT_FILE to a PEM bundle, or unset it to trust the usual authorities.
error-not_connected = There is no grant for { $id } yet.
    .action = Authorize once: run `ghl-auth login`.
error-company_trouble = The token of location { $location } comes from the grant of company { $company }, and there the trouble is: { $why }
    .action = { $action }
error-not_minted = There is no grant for location { $location }, and no company's grant brings a token for it. HighLevel said: { $said }
    .action = See whether the id is right and the app is installed on that location (HighLevel: Settings > Company > Installed apps), then authorize it: run `ghl-auth login`.
error-no_grant = There is no grant yet.
    .action = Authorize once: run `ghl-auth login`.
error-which_one = There are several installations, or none is named.
    .action = Name one with --location or --company, or set GHL_LOCATION_ID. `ghl-auth status` lists them.
error-which_app = Several apps are configured, and none is named: { $list }
    .action = Name one with --app NAME, or set GHL_APP.
error-no_such_app = No app called { $app } is configured. There is: { $list }
    .action = Name one of these with --app or GHL_APP, or add yours to GHL_APPS.
error-one_callback = { $one } and { $other } lead to the same path, { $path }: whose code comes back there could not be told.
    .action = Register an address of its own for each app, such as https://auth.example.com/apps/{ $app }/oauth/callback, and name it in { $other }.
error-needs_person = HighLevel refuses the grant of { $id } since { $since }: { $said }
    .action = A person must authorize again: run `ghl-auth login`. If the location is not offered, uninstall the app there first.
error-suspended = HighLevel says that { $id } is not active (since { $since }): { $said }
    .action = Reactivate the sub-account or settle its bill in HighLevel. The grant is kept and works again then; no new login is needed.
error-invalid_client = HighLevel refuses the app's credentials: { $said }
    .action = Compare GHL_CLIENT_ID and GHL_CLIENT_SECRET with the marketplace app (Manage > Secrets). No grant was lost.
error-invalid_code = HighLevel refuses the authorization code: { $said }
    .action = A code works once and for seconds. Run `ghl-auth login` for a new one. If a fresh code is refused too, check GHL_CLIENT_ID and GHL_CLIENT_SECRET: HighLevel gives the same answer for those.
error-unanswered = HighLevel gave no usable answer to the token request: { $said }
    .action = Nothing is lost: the same token is sent again on the next run. Check this machine's network if it lasts.
error-resting = The last tries to refresh failed ({ $said }), and the next is due at { $until }.
    .action = Wait, or run `ghl-auth refresh` to try now.
error-fresh_token_refused = HighLevel refuses an access token that was refreshed less than a minute ago.
    .action = Another refresh would not cure that. Check that the app is still installed in the location and that it has the scopes.
error-anonymous_grant = The tokens do not say which location or company they belong to.
    .action = Set GHL_LOCATION_ID and try again.
error-parked = The grant of { $id } came by itself and waits for approval.
    .action = Look at it with: ghl-auth installs list, and approve or refuse it.
error-no_room_for = The store { $place } has no room for that ({ $what }): a file keeps one installation and nothing else.
    .action = Use GHL_STORE=sqlite:PATH with GHL_AUTH_KEY.
error-store_io = The store { $place } can't be used: { $why }
    .action = Check that the folder exists, that the disk is not full, and that this user may write there.
error-store_database = The database { $place } can't be used: { $why }
    .action = { $cause ->
        [login] Put the right user and password into GHL_STORE: postgres://USER:PASSWORD@HOST/DATABASE, with %40 for an @ in the password. As the database's administrator, a new one is set in psql: \password USER
        [not-let-in] Let this machine and this user in: add a line for them to the server's pg_hba.conf and run `SELECT pg_reload_conf()` there. If the line there says hostssl, GHL_STORE needs sslmode=verify-full.
        [no-database] Name a database that is there, at the end of GHL_STORE, or make one as the server's administrator: createdb --owner USER DATABASE
        [not-allowed] Give the user the right to it, as the database's administrator: GRANT CREATE ON DATABASE … TO USER; and, where the schema is there already: ALTER SCHEMA … OWNER TO USER;
        [unreached] See that the server runs (systemctl status postgresql), that the host and the port in GHL_STORE are its, that it listens there (listen_addresses), and that no firewall is in between. Tokens at hand are served meanwhile.
        [untrusted] Name the server in GHL_STORE as its certificate does, and, where an authority of your own signed it, add sslrootcert=/path/to/its.pem. An expired certificate is renewed on the server.
        [no-tls] Switch TLS on in the server (ssl = on). Where it is on this machine, GHL_STORE may have sslmode=disable instead.
        [crowded] Give the server more connections (max_connections), put a pooler before it, or have each program take fewer with pool=… in GHL_STORE.
        [table-missing] A table of ours is not there: restore a whole backup of the database. `ghl-auth doctor` says which part is missing.
       *[other] Check that the database runs and can be reached, that its disk is not full and that nothing else holds it; restore a backup if it is damaged.
    }
error-store_is_folder = { $place } is a folder, and ought to be a file.
    .action = Docker makes a folder of a file that is missing when it is mounted. Delete the folder, create an empty file in its place (touch { $place }), and start again.
error-store_exposed = { $place } is not for this program alone: { $why }
    .action = { $cure }
exposed-link = it is a symbolic link.
    .action = Name the file itself, not a link to it.
exposed-hard-links = the same file has other names.
    .action = Copy it and take the copy: cp -p { $place } { $place }.copy && mv { $place }.copy { $place }
exposed-no-file = it is a pipe, a device or a socket.
    .action = Name a regular file, or one that is not there yet.
exposed-other-owner = it belongs to the user { $detail }.
    .action = Start as that user, or give the file to this one: chown "$(id -u)" { $place }
exposed-open-folder = others may put their own files there (mode { $detail }).
    .action = Run: chmod go-w { $place }
error-store_unreadable = { $place } can't be read as it stands: { $why }
    .action = If you have a copy, put it back. Otherwise run `ghl-auth login`; the unreadable file is kept beside the new one.
error-no_key_to_rotate = GHL_AUTH_KEY is not set, so nothing is sealed and there is nothing to seal anew.
    .action = Set GHL_AUTH_KEY first; `openssl rand -base64 32` makes a key.
error-left_under_old_key = { $count ->
    [one] One record does not open under any of the keys, and still names an old one.
   *[other] { $count } records do not open under any of the keys, and still name an old one.
  }
    .action = Everything else is under the new key. Keep GHL_AUTH_OLD_KEYS for now. Authorize the installation named above again or remove it, and run `ghl-auth rotate-key` once more.
error-landed_under_old_key = { $count ->
    [one] One answer of HighLevel's has landed in the spool under an old key and is not saved yet.
   *[other] { $count } answers of HighLevel's have landed in the spool under an old key and are not saved yet.
  }
    .action = Everything else is under the new key. Keep GHL_AUTH_OLD_KEYS for now: `ghl-auth serve` or `ghl-auth check` saves them; then run `ghl-auth rotate-key` again.
error-wrong_key = { $place } is sealed with the key { $key }, which is neither GHL_AUTH_KEY nor among GHL_AUTH_OLD_KEYS.
    .action = Set the key that it was sealed with. Nothing was changed.
error-seal_broken = The seal of { $place } does not hold: it was altered, or moved there from elsewhere.
    .action = Restore it from a backup. Nothing was changed.
error-key_missing = { $place } is sealed, and GHL_AUTH_KEY is not set.
    .action = Set GHL_AUTH_KEY, or GHL_AUTH_KEY_FILE, to the key that it was sealed with.
error-store_too_new = { $place } was written by a newer version of ghl-auth.
    .action = Use that version. Nothing was changed.
error-store_poisoned = { $place } failed to reach the disk, so what the system says of it can't be trusted any more.
    .action = Check the disk and start again.
error-store_standby = { $place } is on standby: { $why }. Nothing is refreshed or taken in there, so that two programs never use one grant.
    .action = Use the store that keeps these grants now. If this one is to keep them from now on, and the other is out of use for good, run: ghl-auth restore --take-over
error-store_in_the_air = A refresh is in the air at { $place }, so it can't be put on standby just now.
    .action = Run the command again in a minute; nothing was changed.
error-store_read_only = { $place } is a standby of another database and takes no writes.
    .action = Name the primary in GHL_STORE (with several hosts, add target_session_attrs=read-write).
error-lease_lost = Another process has taken over the refresh.
    .action = Run this again: it will find the other's tokens.
error-spooled = The new tokens are safe in a file beside the store, which can't take them yet: { $why }
    .action = Cure that and run any command: the tokens are saved at its start.
error-unsaved = The new tokens could not be saved anywhere: { $why }
    .action = Cure that and run `ghl-auth refresh` within 30 seconds: HighLevel gives the same tokens again. After that a person must log in.
error-another_location = The store holds the grant of { $found }, and GHL_LOCATION_ID means { $wanted }.
    .action = Set GHL_LOCATION_ID to the one that you want to check, or run `ghl-auth login` for the other.
error-another_class = The store holds the grant of { $found }, and the settings mean { $wanted }.
    .action = Set GHL_USER_TYPE and GHL_LOCATION_ID to what was granted, or run `ghl-auth login` again.
error-token_refused = HighLevel refused the access token while { $step } ({ $status }): { $said }
    .action = It was refreshed already, or can't be. Check that the app is still installed in the location; if not, run `ghl-auth login`.
error-private_token_refused = HighLevel refused the Private Integration Token ({ $status }): { $said }
    .action = Create a new one under Settings > Private Integrations and set GHL_PRIVATE_TOKEN.
error-scope_missing = The token lacks the scope for { $step } ({ $status }): { $said }
    .action = Add contacts.readonly and contacts.write (without a contact: locations.readonly) to the marketplace app, then authorize again with `ghl-auth login`.
error-wrong_class = The token is of the wrong class for { $step } ({ $status }): { $said }
    .action = A company's token can't read contacts. In the marketplace app set the target user to "Sub-account" and authorize the location with `ghl-auth login`.
error-other_location = The token has no access to this location ({ $status }): { $said }
    .action = The contact belongs to another sub-account than the token. Compare GHL_LOCATION_ID and GHL_HEALTH_CHECK_CONTACT_ID.
error-version_refused = HighLevel refuses the API version ({ $status }): { $said }
    .action = Set GHL_API_VERSION to 2021-07-28 or v3.
error-location_not_active = HighLevel says that the location is not active: { $said }
    .action = Reactivate the sub-account or settle its bill in HighLevel. The grant is kept.
error-contact_not_found = There is no such contact in the location: { $said }
    .action = Set GHL_HEALTH_CHECK_CONTACT_ID to a contact of this sub-account: its id stands in the address when you open the contact.
error-rate_limited = HighLevel says that there were too many requests while { $step }: { $said }
    .action = The app shares 100 requests in 10 seconds with all who use it in this location. Wait a little, and look who else calls.
error-unavailable = HighLevel is in trouble while { $step } ({ $status }): { $said }
    .action = Nothing is wrong here. Wait, and run this again.
error-unreachable = HighLevel can't be reached while { $step }: { $said }
    .action = Check this machine's network, its DNS, and GHL_API_BASE_URL.
error-no_answer = HighLevel did not answer while { $step }: { $said }
    .action = Try again. If it lasts, check this machine's network.
error-unreadable_answer = HighLevel's answer can't be understood while { $step }: { $said }
    .action = Check GHL_API_BASE_URL. If it is right, HighLevel may have changed its API: look for a newer version of this program.
error-refused = HighLevel refused while { $step } ({ $status }): { $said }
    .action = Look HighLevel's words up in its documentation, or run `ghl-auth check --json` and give the trace id to HighLevel's support.
error-workflow_silent = The tag was added, and the workflow did not remove it within { $seconds } s.
    .action = In HighLevel check that the workflow is published, that its trigger is "Tag Added" with this very tag, and that its last action is "Remove Tag".
error-no_code = There is no authorization code in that.
    .action = Paste the whole address that your browser shows after you allowed the app; it holds "code=".
error-wrong_state = That address belongs to another login.
    .action = Open the address printed last, and paste what follows from it.
error-nobody_answered = Nobody pasted an address or a code.
    .action = Run `ghl-auth login` in a terminal, or give it what your browser shows with --code.
error-consent_refused = HighLevel's consent page answered: { $said }
    .action = Run `ghl-auth login` again and allow the app.
error-import_unreadable = { $path } can't be imported: { $why }
    .action = Give the path of the template's ghl_tokens.json. If its tokens are gone, run `ghl-auth login`.
error-import_present = The store has another grant for { $id } already.
    .action = Importing an older one would lose the newer. If the file is newer, run this again with --replace.
error-confirm = Nobody is at a terminal to confirm that this store takes over.
    .action = Once the store that it was copied from is out of use for good, run it again with --yes.
error-not_confirmed = That was not confirmed; nothing was changed.
    .action = Run it again, and type the words that it asks for.
error-restore_not_empty = { $place } holds grants already.
    .action = Restore into an empty store, or add to this one with --merge: what is newer here stays.
error-migrate_address = That is no address of a store: { $why }
    .action = Write --from and --to like GHL_STORE: sqlite:PATH, or file:PATH for --from.
error-migrate_same = Both addresses name the same store.
    .action = Name the store that the grants are in with --from, and the new one with --to.
error-migrate_to_file = A file has room for one installation, so nothing is migrated into one.
    .action = Migrate to a database. A single grant goes into a file with: ghl-auth export
error-migrate_nothing = There is no store at { $place }.
    .action = Check the address after --from.
error-migrate_target_in_use = { $place } holds grants of its own already.
    .action = Migrate into an empty store.
error-migrate_landings = { $count ->
    [one] One answer of HighLevel's waits beside { $place } and can't be saved, so nothing was copied.
   *[other] { $count } answers of HighLevel's wait beside { $place } and can't be saved, so nothing was copied.
  }
    .action = Start the service once over { $place } with its own settings, until its log says that they are saved; go back for that with --give-up.
error-migrate_differs = The copy of { $id } is not as it is in the source, so the new store was not put into service.
    .action = Run the same command again. If it says so once more, go back with --give-up and begin with an empty store.
error-migrate_stopped = { $why } The move is not done: both stores are on standby, and no grant is lost.
    .action = { $cure } Then run the same command again, and it goes on. Or go back: the same command with --give-up.
error-migrate_not_begun = Nothing is on its way from { $from } to { $to }.
    .action = --give-up undoes a migrate that was begun with the same two addresses.
error-migrate_used = { $id } was used at { $to } since it was moved, so there is no way back: the old tokens are spent.
    .action = Keep the new store; or move everything back with migrate, from it into an empty one.
error-rotate_all_stopped = Stopped before every grant had new tokens; no refresh was left in the air.
    .action = Go on with: ghl-auth rotate-all --since { $since }
error-output = The answer could not be written: { $why }
    .action = Check where the output goes.
error-exec = { $program } could not be started: { $why }
    .action = Check the command behind `--`.
error-stopped = Stopped before it was done. A refresh that was still in the air is taken up by the next run.
    .action = Run it again.
error-schedule = { $program } did not do what it was asked: { $why }
    .action = Nothing else was changed. Run it by hand to see more, or use the other scheduler (`--systemd`).
error-schedule_interval = cron can't keep an interval of { $hours } h from one day to the next.
    .action = Set RUN_INTERVAL_HOURS to one of { $neighbours }, or use `ghl-auth schedule install --systemd`, which keeps any.
error-schedule_no_env = There is no .env file here, and a schedule has no other settings.
    .action = Put the settings into .env, or name the file with --env-file.
error-schedule_apps = A schedule runs one check, and there are several apps here, or one was named with --app.
    .action = Use `ghl-auth serve`, which checks all apps by itself, or have your own scheduler run `ghl-auth --app NAME check` for each.
error-container_layer = { $place } would be lost with this container: nothing is mounted there.
    .action = Create an empty file on the host (touch ghl_tokens.json) and mount it: docker run -v "$PWD/ghl_tokens.json:/app/ghl_tokens.json" …
error-container_layer_spool = { $place }, where new tokens land before they are saved, would be lost with this container: nothing is mounted there.
    .action = Mount a volume of this container's own, and name a folder in it in GHL_AUTH_SPOOL.
error-schedule_unit_there = { $path } is there already, and was not written by this command.
    .action = Keep using that unit, or take it away first.
error-nothing_to_refresh = A Private Integration Token never changes, so there is nothing to refresh.
    .action = Renew it in HighLevel under Settings > Private Integrations, or unset GHL_PRIVATE_TOKEN to refresh the app's grants.
error-sandbox_listen = The sandbox can't listen on { $address }: { $why }
    .action = Name a free address of this machine with --listen, such as 127.0.0.1:8790.
error-write_env = { $path } can't be written: { $why }
    .action = Name a file that is not there yet: an .env may hold real secrets, so it is never overwritten.
error-demo = The demo could not start: { $why }
    .action = Check that this user may write to the temporary folder and listen on 127.0.0.1.

## Reasons why something can't be read

reason-it-is-empty = it is empty
reason-it-is-sealed = it is sealed
reason-it-holds-no-access-token = it holds no access token
reason-it-holds-no-refresh-token = it holds no refresh token
reason-it-is-no-text = it is no text
reason-it-is-no-JSON-object = it is no JSON object
reason-its-tokens-name-neither-a-location-nor-a-company = its tokens name neither a location nor a company
reason-it-is-no-database = it is no database
reason-the-database-is-damaged = the database is damaged
reason-it-is-another-program-s-database = it is another program's database
reason-it-ends-in-the-middle = it ends in the middle
reason-it-ends-in-the-middle--and-no-access-token-is-whole-before-that = it ends in the middle, and no access token is whole before that
reason-it-ends-in-the-middle--and-no-refresh-token-is-whole-before-that = it ends in the middle, and no refresh token is whole before that
reason-its-tokens-are-not-of-the-resource-that-it-names = its tokens are not of the resource that it names
reason-it-has-no-credentials--fetch-each-connection-by-itself = it has no credentials: fetch each connection by itself
reason-it-is-a-credential-for-another-service = it is a credential for another service
reason-nobody-has-connected-it-yet = nobody has connected it yet
reason-it-is-encrypted--export-it-with---decrypted = it is encrypted: export it with --decrypted
reason-the-store-has-a-newer-grant--or-one-of-the-same-time = the store has a newer grant, or one of the same time
reason-it-is-no-archive-of-this-program = it is no archive of this program
reason-it-is-no-JSON = it is no JSON
reason-it-could-not-be-read = it could not be read
reason-it-is-too-large-to-be-a-token-file = it is too large to be a token file
reason-a-member-is-missing-or-of-another-kind = a member is missing or of another kind
reason-its-company-is-no-id = its company is no id
reason-no-answer = no answer
reason-no-answer-in-time = no answer in time
reason-no-answer-within-30-seconds = no answer within 30 seconds
reason-the-answer-is-not-JSON = the answer is not JSON
reason-the-answer-has-no--contact- = the answer has no `contact`
reason-the-token-reply-is-not-a-whole-JSON-object = the token reply is not a whole JSON object
reason-the-token-reply-has-no-usable--access-token- = the token reply has no usable `access_token`
reason-the-token-reply-has-no-usable--refresh-token- = the token reply has no usable `refresh_token`
reason-the-grant-has-no-refresh-token-of-its-own = the grant has no refresh token of its own
reason-another-process-has-been-refreshing-for-too-long = another process has been refreshing for too long
reason-the-request-broke-off-inside-this-program = the request broke off inside this program
reason-the-refresh-broke-off-inside-this-program = the refresh broke off inside this program
reason-the-token-holds-characters-that-no-header-can-carry = the token holds characters that no header can carry

## Mistakes on the command line

usage-unknown-argument = I don't know `{ $argument }`. See: { $command }
usage-unknown-command = There is no command `{ $argument }`. See: { $command }
usage-missing = Something is missing: `{ $argument }`. See: { $command }
usage-conflict = `{ $argument }` and `{ $other }` exclude each other. See: { $command }
usage-bad-value = `{ $value }` is no good value for { $argument }. See: { $command }
usage-other = I don't understand that. See: { $command }

## Help

help = Keeps the connection to GoHighLevel alive, proves it, and hands out valid tokens.
help-usage = Usage:
help-options = Options
help-options-name = [OPTIONS]
help-commands = Commands
help-command-name = COMMAND
man-name = NAME
man-synopsis = SYNOPSIS
man-description = DESCRIPTION
man-options = OPTIONS
man-commands = COMMANDS
man-more = NOTES
man-version = VERSION
help-after = Without a command: check. Settings come from the environment and .env; .env.example explains each.
    Exit codes: 0 operational, 1 the check failed, 2 wrong use or settings, 3 a person must authorize,
    4 HighLevel or the store can't be reached.
help-check = The main job: refresh if need be, read the contact, add the tag, report.
help-login = Authorize once, in a browser.
help-token = Print one valid access token, and nothing else.
help-exec = Run a command with GHL_ACCESS_TOKEN in its environment.
help-status = Show every installation: health, token, last check, and what to do.
help-refresh = Get new tokens now, however fresh the present ones are.
help-rotate-key = Seal everything anew under GHL_AUTH_KEY, while the service runs.
    .more = First give the new key as GHL_AUTH_KEY and the one before among GHL_AUTH_OLD_KEYS, to the service too, and start it again. It goes on by itself where it was interrupted.
help-import = Take in grants: the Python template's ghl_tokens.json, or many at once from other programs.
    .more = Formats, known by what is in the file:
          template  the Python template's ghl_tokens.json, whole or cut short
          jsonl     HighLevel's token replies, one a line
          mongodb   the official SDK's sessions, as mongoexport writes them
          nango     connections, as Nango's API gives them with their credentials
          n8n       what n8n writes with export:credentials --all --decrypted
        Nothing that is here is replaced by something older, unless --replace is given.
help-backup = Write everything that the store keeps to one sealed file, while the service runs.
help-restore = Put a backup into the store, which stands by until it is told to take over.
help-migrate = Move all grants from one store to another.
    .more = Both stores stand by meanwhile, so that no grant is refreshed twice. Run again after a stop, it
        goes on. Both are opened with GHL_AUTH_KEY and GHL_AUTH_OLD_KEYS; the new one is sealed under
        GHL_AUTH_KEY.
help-rotate-all = After a leak: get new tokens for every grant now.
help-export = Write a grant in the template's format.
help-schedule = Run the check every RUN_INTERVAL_HOURS, by cron or systemd, or keep the service running.
help-schedule-show = Show the entry.
help-schedule-install = Write the entry, and touch no other.
help-schedule-remove = Take the entry out, and touch no other.
help-sandbox = Run a HighLevel of our own on this machine, to try and to test against.
    .more = Try it:
          ghl-auth sandbox --write-env sandbox.env &
          ghl-auth --env-file sandbox.env login
          ghl-auth --env-file sandbox.env check
        An agency offline, with as many locations as you like; serve finds them all:
          ghl-auth sandbox --locations 200 --write-env agency.env &
          ghl-auth --env-file agency.env login
          ghl-auth --env-file agency.env serve &
          ghl-auth --env-file agency.env status
        Make trouble, and see what happened, in a browser at http://127.0.0.1:8790/ or by curl:
          curl -d '{"{"}"fault":"lose_answer","on":"refresh"{"}"}' http://127.0.0.1:8790/_sandbox/faults
          curl http://127.0.0.1:8790/_sandbox/ledger
help-demo = Show the whole job on the sandbox, with nothing to configure.
help-completions = Print completions for a shell: bash, elvish, fish, powershell, zsh.
help-man = Print the manual page.
arg-help = Show this help.
arg-version = Show the version.
arg-env_file = Read settings from this file instead of .env.
arg-app = Which of several apps is meant (see GHL_APPS).
arg-json = Answer with one JSON document.
arg-wait_for_workflow = Wait this long for the workflow to remove the tag, and fail if it does not.
arg-code = The authorization code, or the address that holds it.
arg-no_browser = Do not try to open a browser.
arg-location = The location (sub-account).
arg-company = The company (agency).
arg-minimum_life = How long the token must live at least: 90s, 10m, 1h. Default: 10m.
arg-header = Print a header for curl -H @- instead of the bare token.
arg-program = The command and its arguments.
arg-all = All installations.
arg-status-company = Only this company and its locations.
arg-state = Only those that stand so: connected, uncertain, suspended, broken.
arg-search = Only those whose id or name has this in it.
arg-sort = In which order: id (default), expires_at, checked_at.
arg-limit = So many at most. Default: 50; with --json, all.
arg-status-all = All of them, however many there are.
arg-path = The file.
arg-replace = Replace a grant that the store has already.
arg-format = Take the file for this: template, jsonl, mongodb, nango or n8n. Default: by what is in it.
arg-dry_run = Say what would be taken, and take nothing.
arg-take_over = Put the store into service: what it was copied from is out of use for good.
arg-merge = Add to a store that holds grants already; what is newer there stays.
arg-yes = Ask nothing.
arg-from = The store that the grants are in: sqlite:PATH, postgres://… or file:PATH.
arg-to = The store that they are to be in: sqlite:PATH or postgres://…
arg-give_up = Go back: put the old store into service again, if the new one was never used.
arg-since = Skip grants whose tokens are from this time or later: 2026-11-25T23:10:00Z.
arg-output = Write to this new file instead of stdout.
arg-systemd = Use a systemd timer instead of cron.
arg-service = Have systemd keep the service (`serve`) running, which makes the checks by itself.
arg-listen = Where to listen, on this machine only. Default: 127.0.0.1:8790.
arg-write_env = Write a complete .env for the sandbox to this new file.
arg-locations = Be an agency with this many locations, and write the .env of one who serves them all.
arg-once = End when everything was shown.
arg-shell = The shell.

## The service

serve-private = Programs ask here: { $address }
serve-public = Browsers come back here: { $address }/oauth/callback
serve-stopping = Stopping: what is at hand is ended first. Once more to stop at once.
serve-doors-stay = The service listens where it did: a new address or certificate file needs a restart.
error-listen = { $address } can't be listened at: { $why }
    .action = Set GHL_AUTH_LISTEN or GHL_AUTH_PUBLIC_LISTEN to an address that is free and that this user may use.
error-threads = No thread could be started: { $why }
    .action = Raise the limits of this user or container, and start again.
error-stop_took_too_long = After 60 seconds something was still in the air; it is taken up at the next start.
    .action = Start the service again soon.
error-probe = No service answers at { $address }.
    .action = Start it with: ghl-auth serve.
error-certificate_files = The certificate or its key can't be used: { $why }
    .action = Set GHL_AUTH_TLS_CERT and GHL_AUTH_TLS_KEY to PEM files that belong together and that this user can read.

## API keys

key-made = The key { $name } is shown this once; only a hash of it is kept:
keys-none = There is no API key yet. Make one with: ghl-auth keys create --name NAME --location ID
key-revoked = The key { $name } is good for nothing from now on.
key-good = good
key-good-until = good until { $at }
key-expired-at = expired { $at }
key-revoked-at = revoked { $at }
reach-all = all installations
error-key_name_taken = There is a key called { $name } already.
    .action = Take another name, or revoke that key first.
error-key_not_for_gateway = --lane and --allow are about the gateway, which this key may not use.
    .action = Add --verb gateway.
error-bad_allow = "{ $value }" does not say what the key may send.
    .action = Give methods in capitals and a path from its / on, such as 'GET,POST /contacts/*': * stands for any method or for one part of a path, ** at the end for the rest.
error-key_unknown = No living key is called { $name }.
    .action = Look for it with: ghl-auth keys list.
head-key = Key
head-name = Name
head-verbs = May
head-reach = For
head-state = State
head-last-use = Last used

## Installs that came by themselves

installs-none = No install waits for approval.
install-approved = { $id } is served from now on.
install-refused = The install of { $id } was refused, and its tokens were dropped.
installs-none-removed = Nothing is out of service.
install-restored = { $id } is served again. If its user has uninstalled the app, HighLevel will refuse its token; then a person has to install it anew.
installs-restored-with = { $count ->
    [one] One location that left with { $id } is served again, too.
   *[other] { $count } locations that left with { $id } are served again, too.
}
error-not_removed = { $id } is not out of service with its tokens, or has been for more than 30 days.
    .action = Look with: ghl-auth installs removed.
head-removed = Since
head-tokens = Tokens
tokens-kept = kept
tokens-none = none
error-not_parked = No install of { $id } waits for approval.
    .action = Look with: ghl-auth installs list.
head-came = Came
head-scopes = Scopes

bad-listen = "{ $value }" is no address to listen at: HOST:PORT or unix:PATH
bad-public-listen = the public listener needs HOST:PORT
bad-listen-exposed = { $value } can be reached from other machines; if that is meant, say so with --i-expose-the-private-api
bad-listen-clear-text = { $value } can be reached from other machines, and needs GHL_AUTH_TLS_CERT and GHL_AUTH_TLS_KEY
bad-tls-half = GHL_AUTH_TLS_CERT and GHL_AUTH_TLS_KEY go together
bad-host = "{ $value }" is no host name
bad-switch = "{ $value }" is neither on nor off
bad-webhook-key-text = this is no list of public keys: each in PEM or in base64, separated by commas
bad-webhook-key-kind = a key in this is of another kind
bad-webhook-key-weak = a key in this is weak: anybody could sign for it
bad-installs = "{ $value }" is none of approve, allowlist, open
bad-allowlist-empty = GHL_AUTH_INSTALLS=allowlist needs at least one id here
bad-audit = "{ $value }" is neither counted nor each
bad-gateway-budget = "{ $value }" is neither observe nor enforce
bad-gateway-limits = "{ $value }" is neither app nor sandbox-pit
bad-gateway-http = "{ $value }" is neither 1.1 nor 2
var-GHL_AUTH_LISTEN = where programs ask the service: HOST:PORT or unix:PATH
var-GHL_AUTH_PUBLIC_LISTEN = where browsers come back to, and nothing else is answered
var-GHL_AUTH_HOSTS = more names under which the service is called, separated by commas
var-GHL_AUTH_TLS_CERT = the service's certificate, with its chain, in PEM
var-GHL_AUTH_TLS_KEY = the key of the service's certificate, in PEM
var-GHL_AUTH_INSTALLS = what becomes of marketplace installs that come by themselves: approve, allowlist or open
var-GHL_AUTH_ALLOWED_INSTALLS = the locations and companies of the allowlist, separated by commas
var-GHL_WEBHOOK_PUBLIC_KEYS = HighLevel's public keys (Ed25519) for webhooks, separated by commas; its published one if left out
var-GHL_WEBHOOK_LEGACY_RSA = whether webhooks with only the legacy RSA signature are taken: on or off
var-GHL_WEBHOOK_RSA_PUBLIC_KEY = HighLevel's public key for the legacy signature; its published one if left out
var-GHL_AUTH_AUDIT = how it is written down who took which token: counted or each
var-GHL_AUTH_GATEWAY_BUDGET = whether requests wait for their turn within HighLevel's rate limit: observe (they don't) or enforce
var-GHL_AUTH_GATEWAY_LIMITS = what is taken for HighLevel's rate limit until it tells: app or sandbox-pit
var-GHL_AUTH_GATEWAY_HTTP = in which version of HTTP the gateway speaks to HighLevel: 1.1 or 2
var-GHL_AUTH_GATEWAY_MAX_BODY_MIB = the longest body that the gateway takes, in MiB; 0 for any
var-GHL_AUTH_GATEWAY_AT_ONCE = how many requests of one API key pass the gateway at once

help-serve = Keep every grant fresh by the clock, and hand tokens to any program on the machine.
    .more = Stop it with Ctrl-C or SIGTERM; SIGHUP reads all settings and secrets anew, but for where it listens.
help-keys = API keys for the programs that ask the service.
help-keys-create = Make a key, and show it this once.
help-keys-list = Show the keys: what they may do, for whom, and when they were last used.
help-keys-revoke = End a key's life, by its name or the part of it that is shown.
help-installs = Marketplace installs that came by themselves and wait for approval.
help-installs-list = Show them.
help-installs-approve = Serve one from now on.
help-installs-removed = Show what is out of service and kept for 30 days.
help-installs-restore = Take one back into service.
help-installs-refuse = Drop one.
arg-i_expose_the_private_api = Listen beyond this machine, as GHL_AUTH_LISTEN says; needs TLS.
arg-probe = Only ask whether a service answers, for a container's health check.
arg-name = What you call it.
arg-key_location = A location it is good for; may be given several times.
arg-key_company = A company it is good for, which does not include its locations; may be given several times.
arg-key_all = Good for all installations there are and will be.
arg-verb = What it may do: token (default), gateway or admin; may be given several times.
arg-lane = Who goes first at the gateway when HighLevel's rate limit is tight: interactive (default), or batch for what nobody waits for.
arg-allow = What it may send through the gateway, such as 'GET,POST /contacts/*'; may be given several times. * stands for one part, ** at the end for the rest. Without it: anything.
arg-expires = How long it is good for: 90d, 12h. Without it, until it is revoked.
arg-key = The key's name, or the part of it that is shown.

## What the service answers programs

api-no_key = The request brings no API key.
    .action = Send the header Authorization: Bearer ghlk_…; ghl-auth keys create makes a key.
api-wrong_key_sent = There is no such API key.
    .action = Look at what was sent; ghl-auth keys create makes a new key.
api-key_expired = The API key has expired.
    .action = Make a new one with: ghl-auth keys create.
api-key_revoked = The API key was revoked.
    .action = Make a new one with: ghl-auth keys create.
api-key_exposed = The API key was sent in the address, in a form or in a cookie, where others keep it.
    .action = Send it in the header Authorization: Bearer ghlk_…, and revoke the one that was sent if others may have seen it.
api-too_many_wrong_keys = Too many wrong API keys came from this address.
    .action = Wait as long as Retry-After says. A right key is answered all the same.
api-wrong_verb = The API key may not do that.
    .action = Use a key with the verb that this takes; see ghl-auth keys list.
api-out_of_reach = The API key is not good for that installation.
    .action = Use a key that is; see ghl-auth keys list.
api-not_found = There is nothing at this path.
    .action = Look at /openapi.json for what there is.
api-method_not_allowed = This path does not take that method.
    .action = Look at /openapi.json for what it takes.
api-unknown_host = The service is not called by that name.
    .action = Call it by its address, or add the name to GHL_AUTH_HOSTS.
api-bad_request = The request is none that makes sense here.
    .action = Send a plain HTTP/1.1 request with one Host header.
api-target_too_long = The address of the request is too long.
    .action = Send less in it.
api-bad_id = That is no id of HighLevel's: 1 to 64 letters, digits, - or _, behind location or company.
    .action = Correct the id.
api-bad_minimum_life = minimum_life is a number of seconds from 0 to 86400.
    .action = Correct it, or leave it out.
api-bad_query = The query has a parameter that is not known, comes twice, or has no good value.
    .action = Look at /openapi.json for the parameters.
api-bad_body = The body is not the JSON that is wanted here.
    .action = Look at /openapi.json for its form.
api-body_too_long = The body is longer than 64 KiB.
    .action = Send less.
api-body_too_slow = The body did not come within 10 seconds.
    .action = Send it at once.
api-took_too_long = The answer took too long. What was begun is ended all the same.
    .action = Ask again in a moment.
api-internal = Something broke inside the program.
    .action = Report it with the x-request-id of this answer.
api-no_room = The store has no room for that: a file keeps one installation and nothing else.
    .action = Use GHL_STORE=sqlite:PATH with GHL_AUTH_KEY.
api-standby = This store is on standby: another one keeps these grants, so nothing is refreshed or taken in here.
    .action = Ask the service that keeps these grants now, or make this one keep them with: ghl-auth restore --take-over
api-store_unavailable = The store can't be used at the moment.
    .action = Try again soon; the log of the service says what is wrong.
api-store_out_of_reach = The database can't be reached: this token is served from memory, and what changed meanwhile is not known here.
    .action = Use the token. Whoever runs the service finds in its log what is wrong with the database.
api-app_closed = The store of this app can't be opened, so nothing of the app is served at the moment.
    .action = Try again soon; the service keeps trying, and its log says what is wrong with the store.
api-not_ready = The service is not ready.
    .action = The log of the service says what is wrong.
api-not_parked = No install of that waits for approval.
    .action = Look at /v1/parked.
api-not_removed = Nothing of that is out of service with its tokens, or it has been for more than 30 days.
    .action = Look at what is kept with: ghl-auth installs removed.
api-not_signed = The webhook does not bear HighLevel's signature.
    .action = Only HighLevel sends here. If it does, compare GHL_WEBHOOK_PUBLIC_KEYS with the keys that it publishes.
api-odd_webhook = The webhook is signed, and yet it is no event.
    .action = Report it with the x-request-id of this answer.
api-untimely_webhook = The webhook tells of another time: more than 5 minutes ahead, or more than 3 days ago.
    .action = Check this machine's clock.
api-not_plain_json = Only application/json is taken here, and not compressed.
    .action = Send the body as it is, with that content type.
api-webhook_too_long = The body is longer than 256 KiB.
    .action = Send less.
api-too_many_webhooks = Too many webhooks come from this address.
    .action = Send it again in a second.
api-bad_target = The address behind /gateway could be read in more than one way: it holds empty or dotted parts, an escaped slash, dot or percent sign, or a character that has no place there.
    .action = Write each part of the path plainly, and escape nothing but blanks and letters beyond ASCII.
api-which_installation = It is not clear which location or company is meant.
    .action = Name one in the header x-location-id or x-company-id; choices lists those it may be.
api-not_allowed = The API key may not send that: its list has no such method and path.
    .action = Send what the key is for, or make one with --allow for this: ghl-auth keys create.
api-tokens_stay = HighLevel's own tokens are not asked for through the gateway: one that is exchanged behind the service's back would be lost to it.
    .action = Ask the service itself: GET /v1/locations/ID/token.
api-too_many_at_once = Too many requests of this API key are on their way at once.
    .action = Wait for some of them, or raise GHL_AUTH_GATEWAY_AT_ONCE.
api-rate_budget_spent = There was no turn within the time that the request may wait: HighLevel takes only so many calls for this location or company.
    .action = Send it again after Retry-After, or let it wait longer with Prefer: wait=SECONDS.
api-daily_quota_spent = HighLevel takes no more calls for this location or company today.
    .action = Send it again after Retry-After.
api-gateway_body_too_long = The body is longer than the gateway takes.
    .action = Send less, or raise GHL_AUTH_GATEWAY_MAX_BODY_MIB.
api-highlevel_unreachable = HighLevel can't be reached, so nothing was sent.
    .action = Send it again in a moment; ghl-auth check says more.
api-highlevel_odd_answer = The connection with HighLevel broke, or what came is no sound answer. Whether the request was acted on is not known.
    .action = See whether it was, then send it again.
api-highlevel_no_answer = HighLevel did not answer within a minute. Whether the request was acted on is not known.
    .action = See whether it was, then send it again.
hint-token_refused = HighLevel refuses the token, and no other could be had or helps. See ghl-auth status.
hint-not_sent_again = The token was refused and there is a new one now, but the request was not sent again. Send it again.
hint-private_token_refused = HighLevel refuses the Private Integration Token. Make a new one in HighLevel and put it into GHL_PRIVATE_TOKEN.
hint-scope_missing = The token lacks the scope for this. Add it to the app, then authorize again.
hint-wrong_class = This wants a token of the other class, location or company. Name one in x-location-id or x-company-id.
hint-other_location = The token is of another location than the request is about. Name the right one in x-location-id.
hint-version_refused = HighLevel does not take this Version. Leave the header out, and the gateway sets it.
hint-not_active = The location is paused, unpaid, or its agency is inactive.
hint-rate_limited = HighLevel takes no more calls for now. With GHL_AUTH_GATEWAY_BUDGET=enforce the gateway waits instead.
api-no_app = No app is configured, so there is nothing to authorize.
    .action = Set GHL_CLIENT_ID, GHL_CLIENT_SECRET and GHL_REDIRECT_URI.

## What a browser shows

page-language = en
page-language-name = English
page-button = Go on
page-start = Connect to HighLevel
    .more = The next page is HighLevel's: choose the location or agency there, and come back here by itself.
page-no-link = This link is not whole
    .more = Ask whoever gave it to you for a new one.
page-link-used = This link was used or has expired
    .more = A link works once, for ten minutes. Ask for a new one.
page-no-app = Nothing to authorize
    .more = This service has no app configured.
page-only-looking = Nothing was used up
    .more = Open this page in a browser to go on.
page-odd = This address makes no sense
    .more = Start anew with a new link.
page-refused = HighLevel did not authorize
    .more = Nothing has changed. HighLevel's words:
page-no-code = There is no code in this address
    .more = Start anew with a new link.
page-other-browser = This is not the browser in which it began
    .more = Start anew with a new link, and stay in the same browser. Nothing was used up.
page-expired = Too late, or used already
    .more = An authorization has to be ended within ten minutes, once. If it did not go well the first time, start anew.
page-code-used = HighLevel does not take this code
    .more = A code works once and not for long. Start anew.
page-install = An install from the marketplace
    .more = Go on to hand this install to the service. Its operator may have to approve it first.
page-no-installs = This service takes no installs that come by themselves
    .more = Ask its operator for a link to authorize with.
page-crowded = Too many installs at once
    .more = Many installs came at the same time. Nothing was used up: go back and press the button again in a minute.
page-thanks = Connected
    .more = You can close this page. The service keeps the connection from now on.
page-parked = Waiting for approval
    .more = The operator of this service was told, and approves or refuses it. You can close this page.
page-unavailable = It did not work out
    .more = The service can't do its work at the moment. Try again soon; the operator finds the reason in its log.

## Alarms and maintenance

var-GHL_HEALTH_CHECK_FAILURE_TAG_NAME = a second tag, for trouble while HighLevel still answers
var-GHL_ALERT_AFTER = failures in a row before anybody is told
var-GHL_ALERT_REMIND_HOURS = hours between two reminders
var-GHL_NOTIFY_WEBHOOK_URL = where notices are posted as JSON
var-GHL_NOTIFY_WEBHOOK_SECRET = what those posts are signed with: whsec_ and base64
var-GHL_NOTIFY_SLACK_URL = an incoming webhook of Slack's
var-GHL_NOTIFY_DISCORD_URL = a webhook of Discord's
var-GHL_NOTIFY_TELEGRAM_URL = Telegram's sendMessage with the bot's token and chat_id
var-GHL_NOTIFY_SMTP_URL = the mail server for notices, with TLS (smtps://) or STARTTLS (smtp://)
var-GHL_NOTIFY_EMAIL_TO = who gets notices by e-mail, separated by commas
var-GHL_NOTIFY_EMAIL_FROM = who those e-mails are from; without it, the mail server's user
var-GHL_NOTIFY_ALLOW_PRIVATE = whether notices may go to addresses of a private network
var-GHL_HEARTBEAT_URL = a dead-man's switch in the grammar of healthchecks.io
help-maintenance = Times in which nobody is told of trouble.
help-maintenance-start = Begin one now.
help-maintenance-list = Show those that have not ended.
help-maintenance-end = End one early.
help-notify = Try each way by which people are told.
arg-lasting = How long: 2h, 30m, 1d. Without it, one installation is paused until you end it.
arg-reason = Why, for whoever looks.
arg-maintenance = The maintenance, as the list calls it.
arg-test = Send a test notice by each way that is configured.
notify-arrived = { $way }: taken
notify-did-not-arrive = { $way }: { $why }
bad-number = "{ $value }" is no number from { $least } to { $most }
bad-truth = "{ $value }" is neither true nor false
bad-notify-url = this address can't be used: { $why }
error-notify_failed = { $count ->
    [one] One way to tell people does not work.
   *[other] { $count } ways to tell people do not work.
    }
    .action = Look at the lines above, mend the settings named, and try again.
error-no_ways = There is no way to tell anybody: none is configured.
    .action = Set one of GHL_NOTIFY_WEBHOOK_URL, GHL_NOTIFY_SLACK_URL, GHL_NOTIFY_DISCORD_URL, GHL_NOTIFY_TELEGRAM_URL, GHL_NOTIFY_SMTP_URL or GHL_HEARTBEAT_URL.
api-no_maintenance = There is no such maintenance that goes on.
    .action = Look at /v1/maintenances.
maintenance-started = Nobody is told of trouble until { $until }. To end it early: ghl-auth maintenance end { $id }
maintenance-paused = { $whose } is paused: it is not checked, and nobody is told of trouble; its token is kept fresh. To go on: ghl-auth maintenance end { $id }
maintenance-until-ended = until it is ended
error-maintenance_endless = A maintenance of everything needs an end.
    .action = Say how long with --for 2h, or which installation is to be paused with --location ID.
maintenance-ended = The maintenance { $id } has ended.
maintenance-none = No maintenance is planned.
error-maintenance_unknown = No maintenance that goes on is called { $id }.
    .action = Look with: ghl-auth maintenance list.
subject-service = the service itself
head-maintenance = Maintenance
head-from = From
head-until = Until
head-reason = Reason
bad-notify-secret = this is not whsec_ and base64 of 24 to 64 bytes
bad-email-half = GHL_NOTIFY_SMTP_URL and GHL_NOTIFY_EMAIL_TO belong together, and one is missing
bad-smtp-url = this is no smtps://USER:PASSWORD@HOST:PORT or smtp://…
bad-email = "{ $value }" is no e-mail address
bad-email-no-sender = the user in GHL_NOTIFY_SMTP_URL is no e-mail address, so this says who the e-mails are from
bad-failure-tag = this needs GHL_HEALTH_CHECK_CONTACT_ID, the contact that gets it
notice-trouble = { $name }: { $whose } is { $health }
notice-recovered = { $name }: { $whose } works again
notice-reminder = { $name }: { $whose } is still { $health }
notice-flapping = { $name }: { $whose } comes and goes, { $health } now
notice-parked = { $name }: an install of { $whose } waits for approval
notice-uninstalled = { $name }: { $whose } was uninstalled by its user
notice-anomaly = { $name }: an API key is used as it never was before
notice-quota = { $name }: the day's calls of { $whose } will be used up
key-many-reads = { $count ->
    [one] The key { $key } took the tokens of an installation that it never read before.
   *[other] The key { $key } took the tokens of { $count } installations that it never read before.
  }
key-new-source = The key { $key } came from { $source }, for the first time.
key-anomaly =
    .action = If that was not you, revoke it: ghl-auth keys revoke.
daily-quota = Calls left of the day's { $limit }: { $remaining }. As they go now, they last until { $at }.
    .action = Send less, or ask HighLevel for more.
notice-test = { $name }: this is a test of { $whose }, which is { $health }
notice-checks-late = { $name }: checks are late, of { $whose }
notice-checks-recovered = { $name }: checks come in time again, of { $whose }
notice-checks-reminder = { $name }: checks are still late, of { $whose }
notice-checks-flapping = { $name }: checks come late again and again, of { $whose }
subject-all = all installations
uninstalled = It is out of service. Its tokens are kept, sealed, for 30 days; if it was a mistake: ghl-auth installs restore --{ $kind } { $id }
uninstalled-with-locations = { $count ->
    [one] One installation is out of service. Its tokens are kept, sealed, for 30 days; if it was a mistake: ghl-auth installs removed
   *[other] With its locations, { $count } installations are out of service. Their tokens are kept, sealed, for 30 days; if it was a mistake: ghl-auth installs removed
  }
late-checks = No check since { $last }; the next one was due at { $due }.
    .action = Look whether the service was stopped, and in its log for what holds it up.
checks-again = Checks are made again.
notice-since = Since { $at }.

## The dashboard

help-dashboard = A link that signs you in to the dashboard, once.
dashboard-link = Open this within 15 minutes, in a browser on this machine:
error-dashboard_no_port = The service listens on a socket file or on whichever port is free, where no browser finds it.
    .action = Set GHL_AUTH_LISTEN to an address with a port, like 127.0.0.1:8787, and start the service anew.
demo-dashboard = The dashboard is here; the link signs you in once:
dash-skip = To the page itself
dash-nav = Pages
dash-overview = Overview
dash-installations = Installations
dash-notices = Notices
dash-keys = API keys
dash-connect = Connect a location
dash-sign-out = Sign out
dash-sign-in = Sign in
dash-sign-in-how = On the machine where this runs, ask for a link that signs you in once:
dash-sign-in-or-key = Or sign in with an API key of the verb admin:
dash-admin-key = API key
dash-sign-in-by-link = This link signs you in once.
dash-sign-in-wrong = There is no such key. Look whether all of it was copied; `ghl-auth keys create --all --verb admin --name you` makes a new one.
dash-sign-in-not-admin = This key may not do everything. Signing in takes one made with `ghl-auth keys create --all --verb admin --name you`.
dash-sign-in-too-many = Too many wrong keys came from there. Wait a minute, then try again; `ghl-auth dashboard` prints a link at once.
dash-sign-in-link-used = This link was used already, or is older than 15 minutes. `ghl-auth dashboard` prints another.
dash-sign-in-elsewhere = That form did not come from this page. Sign in here.
dash-in = in { $span }
dash-location = Location
dash-company = Company
dash-stand-connected = Connected
dash-stand-uncertain = Uncertain
dash-stand-suspended = Suspended
dash-stand-broken = To be authorized
dash-verdict-empty = Nothing is connected yet
dash-verdict-good = Everything works
dash-verdict-trouble = { $count ->
    [one] One thing needs you
   *[other] { $count } things need you
}
dash-needs = What needs you now
dash-waits = { $id } was installed and waits for your approval
dash-approve = Serve it
dash-dismiss = Turn it away
dash-dismiss-really = Turn { $id } away? Its grant is dropped, and whoever installed it has to do so again.
dash-the-service = The service
dash-the-checks = The checks
dash-count-locations = Locations
dash-count-companies = Companies
dash-budget-now = Calls left now
dash-budget-day = Calls left today
dash-budget-spent = Today's calls are used up at
dash-none-yet = No location is connected.
dash-all-installations = All installations
dash-last-checks = Last checks
dash-no-checks = Nothing was checked yet.
dash-no-notices = There was nothing to tell.
dash-search = Name or id
dash-stand = Connection
dash-any = any
dash-order = Order
dash-order-id = By id
dash-order-expires-at = Whose token ends first
dash-order-checked-at = Checked longest ago
dash-show = Show
dash-nothing-found = Nothing is like that.
dash-first-page = First page
dash-next-page = Next page
dash-unlisted = HighLevel's list of installed locations has been without it since
dash-check-now = Check now
dash-refresh = Refresh the token
dash-connect-again = Connect again
dash-forget = Forget
dash-expires = Token ends
dash-issued = Token came
dash-connected = Connected since
dash-missing = Scopes that are missing: connect again to grant them
dash-chart = { $share } checks operational
dash-chart-longest = the longest took { $milliseconds } ms
dash-scopes = Scopes
dash-done-checked = It was checked.
dash-done-refreshed = It has a new token.
dash-done-restored = It is served again.
dash-paused = Paused
dash-pause = Pause
dash-pause-means = Paused: it is not checked, and nobody is told of trouble; its token is kept fresh.
dash-resume = Go on
dash-done-paused = It is paused.
dash-done-resumed = It is checked again.
dash-done-approved = It is served from now on.
dash-settings = Settings
dash-settings-how = They are set where the service is started, in its environment or its .env file, and read at its start. Secrets are not shown.
dash-setting = Setting
dash-value = Value
dash-secret-set = set, and not shown
dash-sessions = Sessions
dash-sessions-how = Whoever is signed in to this dashboard, on any machine, is signed out:
dash-sign-out-everywhere = Sign out everywhere
dash-problem = This does not work
dash-to-overview = To the overview
dash-history = History
dash-turn-authorized = Authorized by a person
dash-turn-refreshed = A new token
dash-generation = set { $generation }
dash-lives-until = lives until { $at }
dash-removed = Forgotten
dash-removed-more = Its tokens are kept, sealed, for 30 days after that.
dash-restore = Serve it again
dash-unknown = There is no such installation here.
dash-forget-title = Forget { $id }?
dash-forget-more = Nobody gets its token any more, and it is not checked. Its tokens stay sealed for 30 days, in which you can undo this.
dash-back = Back
dash-keys-how = Keys are made in the terminal, which shows each once:
dash-key-name = Name
dash-key-verbs = May
dash-key-reach = Reaches
dash-key-used = Used
dash-key-ends = Ends
dash-key-revoked = Revoked
dash-key-revoke = Revoke
dash-key-really = Revoke the key { $name }? Whatever uses it is turned away from now on.
dash-reach-all = everything
dash-way-arrived = arrived { $at }
dash-way-waits = on its way
dash-notice-trouble = Trouble
dash-notice-recovered = Works again
dash-notice-reminder = Still trouble
dash-notice-flapping = Comes and goes
dash-notice-parked = Waits for approval
dash-notice-uninstalled = Uninstalled
dash-notice-late = Checks are late
dash-notice-anomaly = Unusual use of a key
dash-notice-quota = The day's calls run out
dash-notice-test = Test
dash-connect-1 = The button leads to HighLevel ({ $host }). Sign in there as someone who may install apps: an agency or sub-account admin.
dash-connect-2 = Choose the sub-account and allow what is asked for.
dash-connect-3 = HighLevel sends you back here, and the location is kept alive from then on.
dash-connect-scopes = HighLevel will ask for:
dash-connect-go = Go to HighLevel
dash-connect-none = This service uses a Private Integration Token. There is nothing to connect; its token is made in HighLevel under Settings, Private Integrations.

api-not_from_here = A form that did not come from a page of this dashboard was not acted on.
    .action = Open the dashboard anew, sign in if it asks you to, and press the button there.

## doctor: what is wrong, and what cures it
help-doctor = Find what is wrong, and say what cures it. Changes nothing but the health check's tag.
arg-doctor-notify = Send a notice by each way, instead of only trying whether it leads somewhere.
arg-doctor-report = Write the findings to this file as well, without secrets, to send to someone.
doctor-level-ok = ok
doctor-level-warning = warning
doctor-level-failure = failure
doctor-area-configuration = settings
doctor-area-files = files
doctor-area-key = key
doctor-area-store = store
doctor-area-network = network
doctor-area-clock = clock
doctor-area-grant = grant
doctor-area-reading = reading
doctor-area-tag = tag
doctor-area-workflow = workflow
doctor-area-schedule = schedule
doctor-area-cron = entry of cron
doctor-area-ports = ports
doctor-area-notices = notices
doctor-not-examined = Not examined, as there is nothing to look at yet: { $list }.
doctor-all-good = Nothing is wrong.
doctor-summary = Failures: { $failures }. Warnings: { $warnings }.
doctor-reported = Written to { $path }, without secrets; only you can read it.
doctor-configuration = A setting is wrong.
    .action = Correct { $name } in .env, or wherever it is set.
doctor-configuration_good = all that are set can be read.
doctor-env_lines = Lines of { $path } are no settings and are passed over: { $lines }.
    .action = Write each as NAME=value on one line, or begin it with # if it is a comment.
doctor-cleaned = These came with quotes or comments in their values, which were taken off: { $names }.
    .action = Where the container gets its environment (--env-file, compose), write the values without quotes and comments.
doctor-placeholder = These still hold an example's words: { $names }.
    .action = Put in the app's own values. In HighLevel: marketplace.gohighlevel.com, My Apps, your app, Advanced Settings, Auth.
doctor-client_id_shape = GHL_CLIENT_ID does not look like one of HighLevel's: 24 digits of 0 to f, a hyphen, and a few characters more.
    .action = Copy the whole client ID: marketplace.gohighlevel.com, My Apps, your app, Advanced Settings, Auth, Client Keys. The part before the hyphen alone is the app's ID.
doctor-location_unnamed = The check that is scheduled needs GHL_LOCATION_ID, which is not set.
    .action = Set it to the sub-account's ID. In HighLevel: Settings, Business Profile; `ghl-auth status` shows it as well.
doctor-files_good = settings and tokens are for their owner only.
doctor-env_mode = Others on this machine may read { $path } (mode { $mode }), and the app's secret stands in it.
    .action = Run: chmod 600 { $path }
doctor-env_owner = { $path } belongs to the user { $owner }, and this is the user { $me }: who owns it decides what this program does.
    .action = Run as root: chown { $me } { $path }
doctor-store_mode = Others on this machine may read { $path } (mode { $mode }), where the tokens rest.
    .action = Run: chmod 600 { $path }
doctor-store_owner = { $path } belongs to the user { $owner }, and this is the user { $me }: new tokens could not be saved there.
    .action = Run as root: chown { $me } { $path }. Or run everything, cron too, as the user { $owner }.
doctor-folder_open = Others may put files of their own into { $path } (mode { $mode }), and so in the place of settings or tokens.
    .action = Run: chmod go-w { $path }
doctor-key_good = it opens the store.
doctor-key_none = GHL_AUTH_KEY is not set: the token file is not sealed, and protected by its mode alone.
doctor-old_keys_alone = GHL_AUTH_OLD_KEYS is set without GHL_AUTH_KEY: nothing new is sealed.
    .action = Set GHL_AUTH_KEY to a new key: openssl rand -base64 32
doctor-old_keys_idle = Nothing is sealed with the keys in GHL_AUTH_OLD_KEYS any more.
    .action = Take GHL_AUTH_OLD_KEYS out of the settings. Keep the keys for as long as you keep backups sealed with them.
doctor-old_keys_needed = Records still sealed with a key of GHL_AUTH_OLD_KEYS: { $count }.
    .action = Run `ghl-auth rotate-key`, and only then take the old keys out.
doctor-store_good = { $place } opens and can be written.
doctor-store_missing = There is nothing at { $place } yet: nobody has authorized the app from here.
    .action = Run `ghl-auth login`. If you have tokens elsewhere: check GHL_STORE and the folder in which you run this, or `ghl-auth import`.
doctor-disk_full = Only { $free } MiB are free where { $place } lies. Without room for the answer no token is refreshed.
    .action = Make room there now: df -h shows which disk is full, du -xh / | sort -h what fills it.
doctor-disk_low = Only { $free } MiB are free where { $place } lies.
    .action = Make room before it is full: df -h shows which disk it is.
doctor-standby = { $place } is on standby, and nothing is refreshed from it: { $why }.
    .action = Use the store that took over (GHL_STORE), or, if this one is to keep the grants, and no other does: `ghl-auth restore --take-over`.
doctor-landings = Answers of HighLevel that are saved but not yet in the store: { $count }.
    .action = Run `ghl-auth check`, which puts them in. If they stay, its message says why.
doctor-in_place = { $place } can't be replaced by another file, so it is rewritten in place, which promises less in a power cut.
    .action = Mount the folder that holds it instead of the file alone, and let the program write in that folder.
doctor-network_good = { $host } answers.
doctor-dns = The name in { $host } is not found: { $why }
    .action = See whether GHL_API_BASE_URL is spelled right, and whether this machine finds any names: getent hosts services.leadconnectorhq.com. If not, mend /etc/resolv.conf or the network.
doctor-no_sandbox = Nobody listens at { $host }, an address of this machine: { $why }
    .action = Start the sandbox again (`ghl-auth sandbox`), or, for the real HighLevel, take GHL_API_BASE_URL out of the settings.
doctor-no_connection = No connection to { $host }: { $why }
    .action = Let the firewall allow outgoing connections to port 443. Try: curl -v https://services.leadconnectorhq.com
doctor-tls = { $host } does not prove that it is who it ought to be: { $why }
    .action = If a proxy opens TLS here, name its authority's certificate with SSL_CERT_FILE. If the address is your own, see whether it speaks HTTPS at all.
doctor-tls_time = The certificate of { $host } is not good at this time: { $why }
    .action = See whether this machine's clock is right: date -u. If not, run: timedatectl set-ntp true
doctor-silent = { $host } takes connections and does not answer: { $why }
    .action = Try again in a few minutes. If it stays, see what stands between: a proxy, a firewall, another program at this address.
doctor-highlevel_down = { $host } answers with an error of its own ({ $status }).
    .action = Wait; tokens at hand go on working. HighLevel says there how it is.
doctor-clock_good = it agrees with HighLevel's.
doctor-clock_unknown = HighLevel did not say what time it has.
doctor-clock_ahead = This machine's clock is { $off } ahead of HighLevel's, so tokens seem to end earlier than they do.
    .action = Let it be set from the network: timedatectl set-ntp true (or install chrony).
doctor-clock_behind = This machine's clock is { $off } behind HighLevel's, so dead tokens seem to live.
    .action = Let it be set from the network: timedatectl set-ntp true (or install chrony).
doctor-grant_good = the token lives for another { $left } (generation { $generation }).
doctor-another_program = HighLevel refused the refresh token since { $since }, only { $age } after it gave it out. Unused, one lives for a year: another program has refreshed this grant, or the app was uninstalled.
    .action = Stop what else uses this grant: the old Python script in a crontab, a copy of this folder, a second server. Then authorize again: `ghl-auth login`.
doctor-written_elsewhere = The token file was last written by another program, likely the Python template.
    .action = Take that script out of every crontab and container: two that refresh one grant lose it. Then run `ghl-auth check`, which takes the file over.
doctor-flight_left = A refresh was begun at { $since }, and whoever began it is gone.
    .action = Run `ghl-auth check` now: it goes on with the same token, as far as HighLevel still takes it.
doctor-claims_class = The token is one of class { $says }, and the settings ask for { $class }.
    .action = Set GHL_USER_TYPE to the class of the grant, or authorize again as the other: `ghl-auth login`. An agency chooses the sub-account on HighLevel's page.
doctor-claims_id = The token is one of { $says }, and { $id } is what it is kept for.
    .action = Correct GHL_LOCATION_ID, or authorize again and choose the right sub-account: `ghl-auth login`.
doctor-claims_app = The token is of the app { $says }, and GHL_CLIENT_ID is of the app { $app }: HighLevel will refuse to refresh it.
    .action = Set GHL_CLIENT_ID and GHL_CLIENT_SECRET to those of the app that was authorized, or authorize this one: `ghl-auth login`.
doctor-claims_end = The token says that it ends at { $says }, and { $noted } is noted for it.
    .action = See whether this machine's clock is right (date -u), then run `ghl-auth refresh`.
doctor-token_ended = The token ended at { $at }, and nothing has refreshed it since.
    .action = Run `ghl-auth check`, which refreshes it; then see below why nothing did.
doctor-scopes_needed = The grant lacks scopes that the health check needs: { $scopes }.
    .action = Tick them in the app: marketplace.gohighlevel.com, My Apps, your app, Advanced Settings, Auth, Scopes. Then authorize again.
doctor-scopes_wanted = The grant lacks scopes of GHL_SCOPES: { $scopes }.
    .action = Authorize again, for HighLevel gives new scopes to a person only: `ghl-auth login`.
doctor-crowd_good = all { $all } of them work as far as is known.
doctor-crowd_troubled = Not all of them work: { $troubled } of { $all }.
    .action = `ghl-auth status` says of each what is wrong and what to do.
doctor-reading_good = HighLevel takes the token of { $id }.
doctor-tag_none = no contact and tag are configured, so none was added.
doctor-tag_good = { $tag } was added to the contact { $contact } and is there.
doctor-tag_not_seen = HighLevel took the tag { $tag } for the contact { $contact }, and a moment later it is not there.
    .action = If a workflow removes it at once, all is well: `ghl-auth check --wait-for-workflow 60s` proves it. Else see whether the contact was merged with another.
doctor-workflow_unseen = nobody can see it run from here; `ghl-auth check --wait-for-workflow 60s` proves that it does.
doctor-tag_left = The tag { $tag } was still on the contact { $contact }: the workflow did not run, or does not remove it.
    .action = If a check ran within the last minute, wait for the workflow first. Else, in HighLevel: Automation, Workflows. See that the one with the trigger "Contact Tag" is published, takes this tag, allows re-entry, and ends with "Remove Contact Tag".
doctor-schedule_good = the check runs by itself.
doctor-schedule_none = Nothing runs the check by itself, so the token ends within a day. It ought to run every { $hours } h.
    .action = Run `ghl-auth schedule install` for an entry of cron, or `ghl-auth schedule install --service` for the service; or keep `ghl-auth serve` running in your own way.
doctor-schedule_twice = Both cron and a timer of systemd run the check.
    .action = Keep one of them: `ghl-auth schedule remove` or `ghl-auth schedule remove --systemd`.
doctor-schedule_differs = The entry of cron does not run every { $hours } h, as RUN_INTERVAL_HOURS says.
    .action = Run `ghl-auth schedule install` again.
doctor-timer_stopped = The timer of systemd is written and does not run.
    .action = Run `ghl-auth schedule install --systemd`. Then see it with: systemctl list-timers (as a user: systemctl --user list-timers).
doctor-schedule_late = The last check was at { $at }, and one is due every { $hours } h: what is to run it does not.
    .action = See whether cron runs (systemctl status cron) and what it said: ghl_auth_check.log beside .env or in /var/log. Then `ghl-auth check`.
doctor-schedule_never = Since the login at { $at } no check has run, and one is due every { $hours } h.
    .action = See whether cron runs (systemctl status cron) and what it said: ghl_auth_check.log beside .env or in /var/log. Then `ghl-auth check`.
doctor-schedule_others = Lines of the crontab seem to refresh the same grant: { $lines }.
    .action = Take them out with crontab -e: two programs that refresh one grant lose it.
doctor-check_failed = The last check, at { $at }, was not content ({ $code }): { $said }
    .action = Run `ghl-auth check`, which says what to do about it.
doctor-cron_good = what it names is there, and may be used.
doctor-cron_program = The entry of cron runs { $path }, which is not there or may not be run.
    .action = Run `ghl-auth schedule install` with the program that is to be run.
doctor-cron_env = The entry of cron reads { $path }, which this user can't read.
    .action = Put the file back, or run `ghl-auth schedule install` in the folder with the right .env.
doctor-cron_log = The entry of cron writes to { $path }, where this user can't write; the shell then does not even begin the check.
    .action = Run as root: touch { $path } && chown USER { $path }. Or run `ghl-auth schedule install` again, which takes a place that can be written.
doctor-ports_free = free; no service is running here.
doctor-service_lives = the service lives.
doctor-port_taken = Another program has { $address }, where the service would listen ({ $name }).
    .action = See which: ss -ltnp. End it, or give { $name } another port.
doctor-port_not_allowed = This user may not listen at { $address } ({ $name }).
    .action = Give { $name } a port above 1023, and let a proxy stand before it.
doctor-port_not_here = { $address } is no address of this machine ({ $name }).
    .action = Set { $name } to an address that `ip addr` shows, or to 127.0.0.1 with the port.
doctor-notices_by_tag = the tag tells people, by its workflow.
doctor-notices_none = Nobody is told when something breaks: there is no contact with a tag, and no other way.
    .action = Set GHL_NOTIFY_EMAIL_TO and GHL_NOTIFY_SMTP_URL, or another of the GHL_NOTIFY_ variables, or GHL_HEALTH_CHECK_CONTACT_ID and GHL_HEALTH_CHECK_TAG_NAME.
doctor-notices_reached = someone listens at: { $ways }.
doctor-notices_sent = a notice was taken by: { $ways }.
doctor-notice_lost = Notices by { $way } do not arrive: { $why }.
    .action = Check its address and password in the GHL_NOTIFY_ variables (GHL_HEARTBEAT_URL for the heartbeat), and that the firewall lets it through. Then: `ghl-auth notify --test`
error-report_not_written = The report could not be written to { $path }: { $why }
    .action = Name a file that is not there yet, in a folder that you may write in.

## Setting up by questions

help-init = Set everything up, by questions.
    .more = It asks for what is needed, says where in HighLevel it is found, and writes each answer to .env at once: interrupted, it goes on where it was. Every answer also has an option; with all of them, or with --yes, nothing is asked.
arg-lang = The language: en or pt-BR.
arg-client_id = The marketplace app's client id.
arg-client_secret_file = The file that holds the app's client secret.
arg-redirect_uri = The redirect address registered in the app.
arg-init_location = The location (sub-account).
arg-store = Where the tokens rest: file:PATH, sqlite:PATH or postgres://…
arg-service_name = The name under which this service speaks.
arg-contact = The contact of the health check, by its id or the address of its page.
arg-contact_email = The same by its e-mail address; made if there is none.
arg-no_contact = No contact: the check only reads.
arg-tag = The tag of the health check.
arg-schedule = What repeats the check: cron, systemd (a timer), service (`serve`, kept by systemd) or none.
arg-every = Hours between two checks.
arg-init_yes = Ask nothing: what has no option stays as it is in .env.
init-welcome = Each answer is saved at once. If you stop, run `ghl-auth init` again: it goes on where you were.
init-choose = ↑ and ↓ choose, Enter takes it
init-keeps = Enter keeps the one that is there
init-yes = Yes
init-no = No
init-yes-by-default = Y/n
init-yes-or-no = Please answer y (yes) or n (no).
init-language = Language / Idioma
    .where = In which language shall the program speak? / Em que idioma o programa deve falar?
init-client-id = Client id
    .where =
        In marketplace.gohighlevel.com, open your app, then Manage > Secrets > Client Keys: the client id stands there.
        In the app, tick these scopes: contacts.readonly, contacts.write, locations.readonly, locations/tags.readonly, locations/tags.write and locations/customFields.readonly.
init-client-secret = Client secret
    .where =
        It stands beside the client id, and HighLevel shows it only once, when it is made: Manage > Secrets > Client Keys.
        If you no longer have it, make another client key there, press Ctrl-C here, and run `ghl-auth init` again with the new client id.
init-redirect-uri = Redirect address
    .where =
        One of the app's redirect addresses, letter by letter as it stands there. New apps take https only; any page will do, such as your own site:
        after you consent, the code stands in the address of that page, and you paste it here.
init-location = Location ID
    .where =
        In the sub-account: Settings > Company Profile > Location ID.
        It is the sub-account to which the tokens give access; 20 letters and digits.
init-store = Where the tokens rest
    .where =
        sqlite:PATH is a sealed database, the usual choice. file:PATH is the ghl_tokens.json of the Python template.
        postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full is for several machines.
init-name = Name of this service
    .where =
        It stands in notices, so that you know which of your services speaks.
        Any name will do.
init-contact = Contact of the health check
    .where =
        An e-mail address: the contact that has it is found, or made. Or a contact's ID, which stands in the address of its page in HighLevel, or that whole address.
        Your own is a good one: it gets the message that all is well. A hyphen (-) is for none; then the check only reads, and no message comes.
init-tag = Tag of the health check
    .where =
        Each check adds this tag to the contact. A workflow in HighLevel sees it, sends you the message, and removes the tag.
        Choose a name that no other workflow waits for.
init-schedule = What is to repeat the check?
    .where =
        A check keeps the tokens fresh and tells you that the connection is alive. It has to be made again and again.
        An entry of cron or a timer is enough for that. The service runs all the time: it makes the checks by itself, and has the dashboard, the API and the gateway for your programs, on this machine only.
init-schedule-cron = cron: an entry in your crontab
init-schedule-systemd = systemd: a timer
init-schedule-service = the service, always on, kept by systemd: checks, dashboard and API
init-schedule-none = nothing for now
init-every = Hours between two checks
    .where =
        12 is good: the tokens live for 24 hours, and are refreshed in time.
        cron keeps 1, 2, 3, 4, 6, 8, 12 and 24.
init-bad-client-id = A client id is 24 digits and letters from a to f, a hyphen, and a few letters and digits: 0123456789abcdef01234567-abcd1234. Copy it whole.
init-bad-client-secret = That is no client secret: it looks like 00000000-0000-4000-8000-000000000000. Copy it whole, without spaces.
init-secret-is-id = That is the client id. The secret stands beside it, and is shown only when it is made.
init-secret-is-private = That is a Private Integration Token, not an app's secret. It needs no `init`: put it into .env as GHL_PRIVATE_TOKEN.
init-bad-redirect = That is no address of a page. It begins with https:// and names a site of yours, for example https://yoursite.com/oauth/callback.
init-redirect-clear-text = A code may not travel unencrypted: the address has to begin with https://. Only an address on this machine (127.0.0.1) may begin with http://.
init-redirect-refused = HighLevel refuses redirect addresses with "ghl" or "highlevel" in them in new apps. If it does, register another one and run `ghl-auth init` again.
init-bad-location = A location's ID is 20 letters and digits, like AbCdEfGhIjKlMnOpQrSt. It is not the name of the sub-account.
init-bad-contact = That is no e-mail address, no ID (20 letters and digits, like AbCdEfGhIjKlMnOpQrSt) and no address of a contact's page.
init-bad-email = That is no e-mail address: it looks like name@example.com.
init-bad-name = A name has 1 to 100 characters.
init-bad-cron = cron keeps 1, 2, 3, 4, 6, 8, 12 and 24 hours only; systemd takes any number.
init-overruled = { $name } is also set in the environment of this process, and what is set there prevails over .env. Take it out there, or let both say the same.
init-key = A key that seals the tokens was made and stands in { $path } as GHL_AUTH_KEY. Keep a copy of it in a safe place: without it nobody can open the tokens.
init-import = There are tokens in { $path } already. To take them along instead of authorizing again, press Ctrl-C, and run `ghl-auth import { $path }`, then `ghl-auth init` again.
init-login = Now HighLevel asks you whether the app may have access.
init-login-again = That did not work. Try again?
init-connected = Connected: { $name }
init-another = The tokens that are here are of location { $found }, and you named { $wanted }.
init-take-other = Use { $found } (No: authorize again, for { $wanted })?
init-contact-found = { $email } is the contact { $id }.
init-contact-make = No contact has the address { $email }. Make one?
init-contact-made = Made: the contact { $id } with the address { $email }.
init-contact-other = Then name another contact.
init-contact-unknown = HighLevel knows no such contact in this location. Copy the ID from the address of the contact's page, or give its e-mail address.
init-contact-elsewhere = That contact is of another location. Choose one of the location that you named.
init-refused = HighLevel did not do it: { $said }
init-scope = The app may not do that: it lacks the scope { $scope }. Tick it in the app, authorize again with `ghl-auth login`, and run `ghl-auth init` again; or give the ID of a contact.
init-scope-lacks = the app lacks the scope { $scope }
init-read-only = Without a contact the check only reads, and nobody gets a message from a workflow.
init-tag-there = The tag { $tag } is there.
init-tag-made = The tag { $tag } was made.
init-tag-by-hand = If the tag { $tag } is not in HighLevel yet, make it there by hand ({ $why }).
init-field-set = { $field } of the contact is now { $name }: with it the workflow's message can name this service.
init-field-none = To let the workflow's message name this service, add a custom field { $field } to contacts in HighLevel and run `ghl-auth init` again.
init-field-scope = A custom field { $field } could let the workflow's message name this service; to fill it in, the app needs the scope { $scope }.
init-field-failed = The custom field with the service's name was left as it is. { $why }
init-workflow =
    The message comes from a workflow, which HighLevel lets only you make: Automation > Workflows > Create.
    1. Trigger: Contact Tag, Tag Added, { $tag }.  2. Action: Send SMS or Send Email.  3. Action: Remove Tag, { $tag }; without it the next check starts nothing.
init-not-yet = The check did not succeed. Do what is said above, and run `ghl-auth init` again: your answers are kept.
init-no-schedule = Nothing repeats the check yet. Later: ghl-auth schedule install, or the service: ghl-auth schedule install --service
init-done =
    Done. The settings stand in { $path }.
    How things are: ghl-auth status.  If something is wrong: ghl-auth doctor
error-init_interrupted = The set-up was interrupted.
    .action = Your answers are kept. Run `ghl-auth init` again to go on.
error-init_terminal = The questions can't be asked here: { $why }
    .action = Run `ghl-auth init` in a terminal, or give the answers as options: ghl-auth init --help
error-init_answer = { $flag } can't be used. { $why }
    .action = Give another value and run the command again.
error-init_missing = Nobody can be asked here, and these are missing: { $flags }.
    .action = Give them as options, or run `ghl-auth init` in a terminal. What each is: ghl-auth init --help
error-init_by_hand = `init` sets up one app for one location, and { $name } is for something else.
    .action = Take { $name } away, or write these settings into .env by hand, as .env.example shows.
error-init_login = The settings are written. Now a person has to authorize the app, and nobody is here.
    .action = Open the link, then run: ghl-auth init --yes --code CODE. Or run `ghl-auth login`, then `ghl-auth init` again.
error-init_another = The tokens that are here are of location { $found }, and { $wanted } is meant.
    .action = Run `ghl-auth login` and choose { $wanted } there, or give --location { $found }.
error-init_unwritten = { $path } can't be written: { $why }
    .action = Make the file and its folder yours to write, and run `ghl-auth init` again.

## Uptime, the status page and badges

arg-watch = Show it again every so many seconds (2, if none are given) until you press q.
status-uptime = Uptime of the last { $window } days (UTC), today at the right
status-uptime-latest = { $window } days of uptime (UTC), here the last { $days }, today at right
status-no-history = Uptime: not known. Checks are remembered once the service has run over this store: ghl-auth serve
status-watching = { $at }, every { $span }. q leaves.
uptime-good = good
uptime-mixed = partly
uptime-bad = not good
uptime-unchecked = no check
error-watch_no_terminal = --watch draws on a terminal, and there is none here.
    .action = Run it in a terminal; for a program or a file, run `ghl-auth status` or `ghl-auth status --json` again and again.
error-watch_terminal = The terminal can't be drawn on: { $why }
    .action = Run `ghl-auth status` without --watch, or in another terminal.
bad-status-page = "{ $value }" is neither off, on nor names
var-GHL_AUTH_STATUS_PAGE = whether anybody may see how the service is, at /status and on badges: off, on, or names (with the names of the installations)
state-up = up
state-late = late
state-down = down
state-unknown = unknown
public-title = Status
public-up = Up
    .more = Everything that was checked works.
public-late = Late
    .more = Some of it does not work as it should, or checks are late.
public-down = Down
    .more = Nothing works at the moment.
public-unknown = Not checked yet
    .more = Nobody has looked yet how it is.
public-since = Since
public-checked = Last checked
public-share = Checks that were good, in 90 days
public-days = The last 90 days
public-from = From
public-more = More than these are not shown.
uptime-told = Days: { $good } good, { $mixed } partly, { $bad } not good, { $unchecked } without a check.
help-badge = Badges: pictures for websites that say in one word how the service or an installation is.
help-badge-create = Make a badge, and print its address and what to paste.
help-badge-list = Show the badges and their addresses.
help-badge-revoke = Take a badge back: its address leads nowhere from then on.
arg-badge-create-location = About this location instead of the whole service.
arg-badge-create-company = About this company instead of the whole service.
arg-label = The words before the word: at most 64 characters, ghl-auth where none are given. Everybody can read them.
arg-badge = The badge: its name, its address, or the end of it.
head-badge = Badge
head-label = Label
head-created = Made
badge-the-service = the service
badge-made = This is the badge { $label } | { $word }. Whoever has its address sees it. To paste as Markdown, and as HTML:
badge-page-off = Badges are shown once GHL_AUTH_STATUS_PAGE is on (or names) and the service has been restarted.
badge-local = This address is of this machine. Put the one by which others reach your service in its place.
badges-none = There are no badges. To make one: ghl-auth badge create
badge-revoked = The badge { $name } is revoked. Browsers may show it for another minute.
error-badge_unknown = There is no badge `{ $name }`.
    .action = Find its name with: ghl-auth badge list
error-badge_label = A label has 1 to 64 characters, all in one line.
    .action = Give a shorter one with --label.

## The sandbox's console

sandbox-console = In a browser, to watch and to break things: { $url }
console-title = HighLevel sandbox
console-nav = On this page
console-what-it-is = This is not HighLevel: everything here is invented and lives in memory on this machine. Break something and watch your service survive it.
console-lost = The sandbox doesn't answer; most likely it was stopped. Start it again, and this page goes on.
console-verdict-good = HighLevel answers as it should
console-verdict-trouble = { $count ->
    [one] One thing goes wrong now
   *[other] { $count } things go wrong now
}
console-held = { $count ->
    [one] One request waits for its hold to be taken back.
   *[other] { $count } requests wait for their hold to be taken back.
}
console-throw = Break things
console-none-active = Nothing goes wrong.
console-take-back = Take back
console-happened = { $count ->
    [one] happened once
   *[other] happened { $count } times
}
console-all-off = All off
console-all-off-what = Faults, holds, suspensions, limits, scopes and the way of webhooks are as at the start again.
console-single = One fault, for chosen requests
console-which = Which requests
console-or-path = Or every path that begins with
console-how-often = How often
console-chance = By chance
console-once = once
console-times = { $count ->
    [one] once
   *[other] { $count } times
}
console-five-minutes = for 5 minutes of its clock
console-always = until taken back
console-until = until { $at }
console-on-any = any
console-on-token = any for tokens
console-on-refresh = refreshing
console-on-exchange = exchanging a code
console-on-mint = minting a location's token
console-on-contact_read = reading a contact
console-on-tag_add = adding a tag
console-on-tag_remove = removing a tag
console-on-location_read = reading a location
console-on-path = { $path }…
console-outage-down = Down for 5 minutes (503)
console-outage-unreachable = Unreachable for 5 minutes
console-outage-answers_lost = The next 3 token answers are lost
console-outage-rate_limited = Rate limit hit for 1 minute (429)
console-outage-slow = All answers 8 s late, for 5 minutes
console-outage-flaky = A third of the answers fail, for 5 minutes
console-processed = { $fault }, after the work was done
console-fault-lose_answer = Done, and the answer is lost
console-fault-lose_request = The connection closes, nothing is done
console-fault-reset = Reset (RST)
console-fault-cut_after = { $count ->
    [one] Cut after 1 byte
   *[other] Cut after { $count } bytes
}
console-fault-delay = Done at once, answered { $seconds } s late
console-fault-delay_before = Done { $seconds } s late
console-fault-status = Status { $code }
console-fault-gateway_html = 502 in HTML
console-fault-truncated_json = Half of the JSON
console-fault-fields_missing = Without { $fields }
console-fault-fields_set = Another { $fields }
console-fault-body = An HTML page for an answer
console-fault-rate_limited = 429 Too Many Requests
console-fault-not_active = 400 Location is not active
console-fault-refused_client = 401 Invalid client credentials!
console-fault-invalid_grant = 400 Invalid grant
console-fault-hold = Hangs, nothing is done
console-fault-hold-answers = Done, and the answer hangs
console-is-suspended = { $name } is suspended
console-clock = Its clock
console-ahead = { $span } ahead of this machine's
console-ahead-by = Move it ahead by
console-clock-what = HighLevel's side only: tokens end, the 30 seconds of a used refresh token pass. Your service keeps its own time. It can't be moved back.
console-count-requests = Requests
console-count-refreshes = Refreshes asked for
console-count-rotations = Refresh tokens used up
console-count-repeats = Same answer given again
console-count-reuse = Used ones, too late
console-count-limited = Refused by the limit
console-count-messages = Messages sent
console-tokens = Tokens
console-tokens-what = Newest first. A token is shown by its last four characters, never whole.
console-no-tokens = Nobody has asked for tokens yet.
console-head-at = When
console-head-whose = Whose
console-head-how = Asked by
console-head-outcome = Outcome
console-head-access = Access token
console-head-refresh = Refresh token
console-head-request = Request
console-head-status = Status
console-head-took = Took
console-head-fault = Fault
console-head-caller = Token
console-head-place = Company or location
console-head-app = The app
console-head-do = What can be done to it
console-by-code = code
console-by-refresh = refresh
console-by-minting = the company's token
console-generation = generation { $generation }
console-issued = generation { $generation } issued
console-repeated = generation { $generation } given again
console-not-processed = a fault answered, nothing was done
console-alive = alive
console-alive-until = alive until { $at }
console-used-up = used up
console-used-up-repeatable = used up; answered the same until { $at }
console-ended = ended
console-requests = Requests
console-no-requests = Nobody has asked for anything yet.
console-contacts = Contacts and tags
console-no-tags = no tags
console-tag-goes = The workflow is running; it removes its tag at { $at }.
console-messages = Messages of the workflow
console-message = to { $name }, because of the tag
console-no-messages = The workflow has sent nothing yet. It does when the health check's tag is added.
console-places = Company and locations
console-places-what = UPDATE and LocationCreate are webhooks; installing and uninstalling send one, too. Installing here gives nobody a code.
console-more-locations = { $count ->
    [one] There is one more location; search to see it.
   *[other] There are { $count } more locations; search to see them.
}
console-company = The company
console-installed = installed { $at }
console-not-installed = not installed
console-suspended = suspended
console-suspend = Suspend
console-resume = Resume
console-revoke-access = End access tokens
console-revoke = End all tokens
console-uninstall = Uninstall
console-install = Install
console-consent = Consent, as from the marketplace
console-redirect-uri = Then the browser goes to
console-consent-go = To the consent page
console-consent-what = Without a state of your service's, as when someone installs from HighLevel's marketplace. With one, begin in the dashboard or with ghl-auth login: they lead here.
console-webhooks = Webhooks
console-webhook-url = Where they are sent; empty for nowhere
console-signature = Signature
console-signature-present = good (x-ghl-signature)
console-signature-legacy = the old one alone (x-wh-signature)
console-signature-both = both
console-signature-not_applicable = N/A beside the old one
console-signature-wrong_key = by a wrong key
console-signature-missing = none
console-without = Members left out
console-twice = Each twice
console-held-back = Held back
console-set = Set
console-let-go = Let go
console-let-go-last = Let go, newest first
console-replay = Send all again
console-webhooks-held = { $count ->
    [one] One webhook is held back.
   *[other] { $count } webhooks are held back.
}
console-webhooks-nowhere = Nobody is told anything: no address is set.
console-webhooks-none = Nothing was sent yet.
console-on-its-way = on its way
console-limits = Rate limit and scopes
console-burst = Calls
console-interval = In so many seconds
console-enforced = One too many is refused
console-scopes = Scopes of tokens issued from now on
console-scopes-all = All
console-scopes-needed = What a check needs
console-scopes-reading = Reading only
console-app = The app
console-app-id = Its id
console-access-life = Life of an access token
console-grace = A used refresh token is answered the same for
console-ledger = ledger
console-begin-again = Begin again
console-begin-again-ask = Forget all grants, tags and requests? Your service will have to be authorized again.
console-done-thrown = Thrown.
console-done-taken_back = Taken back.
console-done-all_off = All off: HighLevel answers as at the start.
console-done-moved = The clock was moved ahead.
console-done-changed = Done.
console-done-told = Told, if there is an address for webhooks.
console-done-begun_again = All is forgotten; the sandbox began again.
console-done-nothing = Nothing was done: the form was not understood. Look at what you filled in, and try again.

## The service, kept by systemd

service-installed = The service runs, and starts with the machine.
service-see =
    See it: systemctl status ghl-auth.  What it says: journalctl -u ghl-auth -f.  After a change in .env: systemctl restart ghl-auth
    End it for good: ghl-auth schedule remove --service
service-see-user =
    See it: systemctl --user status ghl-auth.  What it says: journalctl --user -u ghl-auth -f.  After a change in .env: systemctl --user restart ghl-auth
    End it for good: ghl-auth schedule remove --service
service-linger = It ends when you log out, and begins when you log in. To have it always on, run this once: loginctl enable-linger { $user }
service-dashboard = Its dashboard: `ghl-auth dashboard` prints a link that signs you in.
service-besides-cron = An entry of cron makes checks as well, which the service has no need of. Take it out: ghl-auth schedule remove
service-besides-timer = A timer of systemd makes checks as well, which the service has no need of. Take it out: ghl-auth schedule remove --systemd
service-removed = The service no longer runs, and does not start with the machine.
service-none = systemd keeps no service that was set up from here. Run: ghl-auth schedule install --service
error-schedule_no_systemd = systemd does not run here, so it can't keep the service.
    .action = Use an entry of cron for the check (`ghl-auth schedule install`), or have whatever starts programs on this machine start `ghl-auth serve`.
error-service_not_started = The service did not start. { $why }
    .action = Cure what it says, and run the command again: systemd keeps nothing of it meanwhile. To see it start before your eyes: ghl-auth serve
error-service_unit_there = { $path } is there already, and was not written by this command.
    .action = Keep that unit: its settings are named in it (a package's are in /etc/ghl-auth/env), and `systemctl restart ghl-auth` starts it. Or take it away and run the command again.
error-service_of_another = systemd keeps the service of another folder already: { $folder }
    .action = Run `ghl-auth schedule remove --service` there, and then this command again. Or leave that one, and use `ghl-auth schedule install` for the settings in this folder.
doctor-service_stopped = The service is set up for systemd, and does not run.
    .action = See why: journalctl -u ghl-auth (as a user: journalctl --user -u ghl-auth). Then run `ghl-auth schedule install --service`, which starts it, or `ghl-auth schedule remove --service`.

## The doctor, on PostgreSQL

doctor-tables_earlier = The tables in { $place } are of an earlier version of ghl-auth, so nothing more was looked at there.
    .action = Run `ghl-auth status`, which brings them to this version; services of the version before go on meanwhile. Then run the doctor again.
doctor-records_missing = In { $place } the tables of what the service remembers are said to be there, and some are not: they were left out of a dump, or deleted.
    .action = Restore a whole dump of the schema. Without one: stop the service, run `DELETE FROM SCHEMA.versions WHERE part = 'records'` there (with the schema's name) and drop what is left of those tables and functions. The service makes them anew, without API keys and history; the tokens are not among them.

## Why a notice did not arrive

reason-it-can-t-be-reached = it can't be reached
reason-the-connection-broke = the connection broke
reason-no-answer-within-10-seconds = no answer within 10 seconds
reason-its-name-is-not-known = its name is not known
reason-its-address-is-private--and-private-addresses-are-not-allowed = its address is private, and private addresses are not allowed
reason-in-clear-text-nothing-goes-beyond-the-private-network--its-address-needs-https = in clear text nothing goes beyond the private network: its address needs https
reason-its-address-makes-no-sense = its address makes no sense
reason-TLS-can-t-be-prepared = TLS can't be prepared
reason-it-offers-no-TLS = it offers no TLS
reason-TLS-with-it-failed = TLS with it failed
reason-it-took-too-long = it took too long
reason-its-answer-makes-no-sense = its answer makes no sense
reason-it-can-t-be-reached--or-the-connection-broke = it can't be reached, or the connection broke
reason-the-connection = the connection
reason-the-user-name-and-the-password = the user name and the password
reason-TLS = TLS
reason-the-sender = the sender
reason-the-recipient = the recipient
reason-the-message = the message
delivery-answered = it answered { $code }
delivery-put-off = it put off { $what }: { $code }
delivery-refused = it refused { $what }: { $code }
delivery-no-use = it has no use for { $what }
