# O que o ghl-auth diz em português do Brasil. Cada frase existe também em inglês; um teste compara as duas.

## A verificação, na ordem em que fala (as frases do modelo em Python, palavra por palavra)

exchanging = Trocando o código de autorização...
tokens-loaded = Tokens carregados e válidos.
refreshing = Access Token expirado. Renovando...
refreshed = Token renovado e salvo.
tokens-saved = Tokens salvos.
access-token = Access Token (parcial): { $start }...
refresh-token = Refresh Token (parcial): { $start }...
scopes = Escopos: { $scopes }
expires = Expira em: { $at }
reading = Testando chamada à API de Contatos...
attempt = Tentativa { $number }/{ $of }...
trying-again = Tentando de novo: { $said }
read = Chamada à API de Contatos bem-sucedida.
tag-removed = A tag que sobrou da última execução foi removida.
tag-added = Tag '{ $tag }' adicionada ao contato '{ $contact }' com sucesso!
operational = Microserviço operacional. Notificação de saúde disparada via tag.
operational-read-only = Microserviço operacional. Verificação só de leitura: nenhuma tag foi adicionada.
waiting-for-workflow = Aguardando até { $seconds } s que o workflow remova a tag...
workflow-ran = O workflow removeu a tag depois de { $after }: o caminho inteiro está provado.

## Palavras dentro de frases

label-warning = aviso:
label-error = erro:
label-action = O que fazer:
label-code = (código: { $code })
whose-location = location { $id }
whose-company = company { $id }
step-token = obter um token
step-read = ler
step-remove_tag = remover a tag
step-add_tag = adicionar a tag
step-workflow = observar o workflow

## Avisos

warning-cleaned = Estas variáveis vieram com aspas ou comentários, como o `docker run --env-file` as passa, e foram limpas: { $names }. Retire as aspas e os comentários para não ver mais este aviso.
warning-env-mode = Outros usuários desta máquina podem ler { $path }, que guarda segredos. Execute: chmod 600 { $path }
warning-env-line = { $path }, linha { $line }: não é NOME=valor e foi ignorada.
warning-refresh-failed = O token vale até { $until }, mas não pôde ser renovado: { $why }
warning-tag-still-there = A tag ainda estava no contato: o workflow não rodou ou não a removeu. Verifique se o workflow está publicado e se a última ação dele é "Remove Tag".
warning-nobody-is-told = Verificação só de leitura: sem GHL_HEALTH_CHECK_CONTACT_ID, GHL_HEALTH_CHECK_TAG_NAME e o token de uma location, nenhum workflow pode avisar que o serviço está vivo.
warning-check-scopes-missing = Faltam à autorização escopos de que esta verificação precisa: { $scopes }. Acrescente-os ao aplicativo no marketplace e a GHL_SCOPES e autorize de novo com `ghl-auth login`.
warning-scopes-missing = Ao aplicativo em { $id } faltam escopos que GHL_SCOPES pede: { $scopes }. Alguém precisa reinstalá-lo ali: { $link }
warning-scopes-missing-no-link = Ao aplicativo em { $id } faltam escopos que GHL_SCOPES pede: { $scopes }. Alguém precisa reinstalá-lo ali, com `ghl-auth login`.
warning-stays-root = Os tokens pertencem ao root, então o programa continua como root. Para mudar isso, dê o arquivo ao usuário que deve ser o dono dele (chown).
warning-in-place = O arquivo de tokens está montado sozinho, então é reescrito no lugar: um programa que o leia no instante exato de uma renovação pode encontrá-lo incompleto. Monte a pasta dele para evitar isso.
warning-exported = O que acabou de ser escrito contém tokens vivos. Só um programa pode renová-los: pare de usar este armazenamento antes que outro programa assuma.
warning-cut-short = { $path } estava cortado, como o modelo em Python o deixa; os dois tokens estavam inteiros e nada se perdeu.
warning-other-location = O HighLevel concedeu { $got }, mas GHL_LOCATION_ID aponta para { $wanted }. A autorização foi guardada. Ajuste GHL_LOCATION_ID para a location que você escolheu, ou execute `ghl-auth login` de novo e escolha a outra.
warning-wanted-location = O HighLevel concedeu { $got }, mas GHL_USER_TYPE pede uma location. A autorização foi guardada. No aplicativo do marketplace defina o usuário-alvo como "Sub-account", ou instale pela sub-conta em vez da agência; ou defina GHL_USER_TYPE=Company.
warning-wanted-company = O HighLevel concedeu { $got }, mas GHL_USER_TYPE pede uma company. A autorização foi guardada. No aplicativo do marketplace defina o usuário-alvo como "Agency", ou defina GHL_USER_TYPE=Location.
login-locations = { $count ->
    [0] O HighLevel ainda não lista nenhuma location desta company com o aplicativo. As novas são encontradas por `ghl-auth serve` em até uma hora.
    [1] O HighLevel lista uma location desta company com o aplicativo. `ghl-auth serve` busca o token dela; `ghl-auth token --location ID` o obtém na hora.
   *[other] O HighLevel lista { $count } locations desta company com o aplicativo. `ghl-auth serve` busca os tokens delas; `ghl-auth token --location ID` obtém um na hora.
  }
login-locations-no-room = { $count ->
    [1] O HighLevel lista uma location desta company com o aplicativo. Um arquivo só tem lugar para os tokens da company: para guardar também os da location, defina GHL_STORE=sqlite:ghl.db e faça login de novo.
   *[other] O HighLevel lista { $count } locations desta company com o aplicativo. Um arquivo só tem lugar para os tokens da company: para guardar também os das locations, defina GHL_STORE=sqlite:ghl.db e faça login de novo.
  }
warning-no-list = A autorização da company foi guardada, mas não foi possível listar as locations dela; para isso o aplicativo precisa dos escopos oauth.readonly e oauth.write. { $why }
warning-no-listener = Não foi possível escutar em { $address } à espera do redirecionamento: { $why }. Cole o endereço aqui.

## Autorização

login-open = Abra este endereço, escolha a sub-conta e autorize o aplicativo:
login-waiting = Aguardando o redirecionamento para { $uri }. Se ele não chegar sozinho, cole aqui o endereço que o navegador mostrar depois.
login-paste = O navegador mostrará então um endereço que contém "code=". Cole aqui, imediatamente, o endereço inteiro ou só o código: ele vale poucos segundos.
connected = Conectado: { $id }. A partir de agora a conexão será mantida viva.
callback-thanks = Conectado. Você pode fechar esta janela.
callback-refused = Este não é o redirecionamento que o ghl-auth espera. Comece de novo com `ghl-auth login`.
callback-page = <!doctype html><html lang="pt-BR"><meta charset="utf-8"><title>ghl-auth</title><body style="font-family:sans-serif;margin:4rem;font-size:1.2rem"><p>{ $title }</p></body></html>

## Outros comandos

imported = Importado: { $id }; o token vale até { $until }.
import-did = Importadas: { $taken } ({ $format }). Já estavam aqui: { $present }. Recusadas: { $refused }.
import-would = Seriam importadas: { $taken } ({ $format }). Já estão aqui: { $present }. Seriam recusadas: { $refused }. Nada foi alterado.
import-refused = A entrada { $entry } foi recusada: { $why }
import-refused-named = A entrada { $entry } ({ $whose }) foi recusada: { $why }
import-refused-more = E mais { $count }; --json mostra a lista inteira.
backup-done = { $count ->
    [1] Uma instalação está em { $path }, selada com GHL_AUTH_KEY: guarde a chave em outro lugar.
   *[other] { $count } instalações estão em { $path }, seladas com GHL_AUTH_KEY: guarde a chave em outro lugar.
  }
restore-done = { $count ->
    [1] Uma instalação lida
   *[other] { $count } instalações lidas
  }; colocadas em { $place }: { $put }. { $landed ->
    [1] Uma resposta era mais nova que o backup.
   *[other] { $landed } respostas eram mais novas que o backup.
  }
restore-standby = O armazenamento está em espera: tokens ainda vivos são servidos, e nada é renovado. Quando o armazenamento de onde veio o backup sair de uso para sempre: ghl-auth restore --take-over
restore-in-service = { $place } está em serviço e guarda suas autorizações daqui em diante.
take-over-word = assumir
take-over-question = Daqui em diante { $place } renova suas autorizações. Se o armazenamento de onde ele foi copiado também as renovar, os dois as perdem. Quando aquele estiver fora de uso para sempre, digite: { $word }
migrate-done = { $count ->
    [1] Uma instalação passou de { $from } para { $to }. Aponte GHL_STORE para o novo armazenamento; o antigo fica em espera.
   *[other] { $count } instalações passaram de { $from } para { $to }. Aponte GHL_STORE para o novo armazenamento; o antigo fica em espera.
  }
migrate-done-before = Tudo já havia passado de { $from } para { $to }. Aponte GHL_STORE para o novo armazenamento; o antigo fica em espera.
migrate-given-up = { $from } está em serviço de novo, e { $to } está em espera.
rotate-all-begins = Obtendo tokens novos para cada autorização cujos tokens são de antes de { $since }. Se isto for interrompido, continue com: ghl-auth rotate-all --since { $since }
rotate-all-goes-on = Continuando a troca que começou em { $since } e foi interrompida: quem já tem tokens mais novos é pulado. Para começar de novo em vez disso: ghl-auth rotate-all --since { $now }
rotate-all-done = Trocadas: { $rotated }. Já tinham tokens mais novos: { $skipped }. Falharam: { $failed }.
rotate-all-failed = { $id } não foi trocada: { $why }
rotate-all-again = Tente de novo as que falharam com: ghl-auth rotate-all --since { $since }
progress-backup = Fazendo backup
progress-restore = Restaurando
progress-migrate = Movendo
progress-import = Importando
progress-rotate-all = Trocando
warning-standby = { $place } está em espera: { $why }. Tokens ainda vivos são servidos; nada é renovado nem recebido.
standby-moving = suas autorizações estão a caminho de { $place }
standby-moved = suas autorizações passaram para { $place }
standby-being-filled = autorizações de { $place } estão sendo copiadas para ele
standby-given-up = suas autorizações ficaram em { $place }
standby-restored = ele foi restaurado de { $place }
refreshed-one = Renovado: { $id }; o token vale até { $until }.
status-empty = Ainda não há autorização em { $store }. Execute: ghl-auth login
status-none = Nenhuma instalação é como você pediu.
status-more = Há mais: veja --limit, --all, --company, --state e --search.
status-no-company = sem company
status-unlisted = { $id } não está mais na lista de locations instaladas do HighLevel desde { $at }. Os tokens continuam guardados e sendo renovados.
count-companies = { $count ->
    [1] 1 company
   *[other] { $count } companies
  }
count-locations = { $count ->
    [1] 1 location
   *[other] { $count } locations
  }
count-connected = { $count ->
    [1] 1 conectada
   *[other] { $count } conectadas
  }
count-uncertain = { $count } sem resposta à última renovação
count-suspended = { $count ->
    [1] 1 suspensa
   *[other] { $count } suspensas
  }
count-broken = { $count ->
    [1] 1 precisa de uma pessoa
   *[other] { $count } precisam de uma pessoa
  }
count-unlisted = { $count } fora da lista do HighLevel
rotated = { $count ->
    [0] Tudo já está sob a chave { $key }.
    [1] Um registro foi lacrado de novo, e tudo está sob a chave { $key }.
   *[other] { $count } registros foram lacrados de novo, e tudo está sob a chave { $key }.
  }
rotated-old-keys = A chave antiga já pode ser retirada: esvazie GHL_AUTH_OLD_KEYS onde quer que este store seja usado, e guarde a chave enquanto guardar backups feitos com ela.
status-app = Aplicativo { $app }
head-installation = Instalação
head-health = Saúde
head-token = Token
head-generation = Geração
head-check = Última verificação
health-unknown = ainda não verificada
health-operational = operacional
health-degraded = degradada
health-down = fora do ar
health-suspended = suspensa
health-needs-person = precisa de uma pessoa
token-lives = vale por { $span }
token-expired = expirou em { $at }
ago = há { $span }
never = nunca
schedule-installed = A verificação rodará a cada { $hours } h.
schedule-removed = A verificação não está mais agendada.
schedule-none = A verificação não está agendada. Execute: ghl-auth schedule install
sandbox-env = { $path } foi escrito. Experimente: ghl-auth --env-file { $path } login
sandbox-ready = O sandbox escuta em { $url } até Ctrl-C. Ajuda sobre falhas e registro: curl { $url }/_sandbox
demo-begins = Um HighLevel de brinquedo (sandbox) roda em { $url }. Nada sai desta máquina.
    Os tokens ficam lacrados em { $folder }.
demo-login = $ ghl-auth login
demo-check = $ ghl-auth check --wait-for-workflow 20s
demo-status = $ ghl-auth status
demo-serve = $ ghl-auth serve
demo-ask = Qualquer programa já pode pedir um token com a sua chave:
demo-asked = O serviço respondeu com um token válido.
demo-pass = Ou pode deixar o token com o gateway e perguntar ao próprio HighLevel através dele:
demo-passed = A resposta do HighLevel veio pelo gateway.
demo-not-passed = nenhuma resposta veio pelo gateway
demo-goes-on = Experimente em outro terminal. Ctrl-C encerra o serviço e o sandbox.
demo-not-answered = o serviço não respondeu com um token
demo-message = O workflow enviou { $count ->
    [1] uma mensagem
   *[other] { $count } mensagens
  } dizendo que o serviço está vivo.
demo-ends = Esse foi o trabalho inteiro. A seguir: ponha as credenciais do seu aplicativo em .env (veja .env.example) e execute `ghl-auth login`.
    O banco de dados da demonstração fica em { $folder } até você apagá-lo.

## Configuração

config-fault =
    {"  "}{ $name }: { $problem }
    {"    "}{ $meaning }
    {"    "}Exemplo: { $example }
missing = não está definida.
bad-store-kind = não é file:CAMINHO, sqlite:CAMINHO nem postgres://USUARIO@SERVIDOR/BANCO.
bad-store-path = falta o caminho depois dos dois-pontos.
bad-store-address = não é um endereço bem formado: postgres://USUARIO:SENHA@SERVIDOR:PORTA/BANCO, com %40 no lugar de um @ na senha.
bad-store-host = o endereço não diz o servidor: postgres://USUARIO:SENHA@SERVIDOR:PORTA/BANCO.
bad-store-user = o endereço não diz o usuário: postgres://USUARIO:SENHA@SERVIDOR:PORTA/BANCO.
bad-store-pool = `pool`, o número de conexões, precisa ser de 1 a 1000.
bad-store-schema = `schema` precisa ser um nome de letras minúsculas, dígitos e _.
bad-store-sslmode = `sslmode` precisa ser verify-full ou, só nesta máquina, disable.
bad-store-parameter = o endereço tem o parâmetro desconhecido `{ $name }`.
bad-store-unverified = um banco em outra máquina precisa de sslmode=verify-full, para que ninguém escute nem se passe por ele; se o certificado dele é de uma autoridade sua, acrescente sslrootcert=ARQUIVO.pem.
bad-store-apps = um arquivo guarda a autorização de um aplicativo só, e o aplicativo { $app } precisa de um lugar próprio; use sqlite:CAMINHO ou postgres://.
bad-app-name = `{ $value }` não é nome de aplicativo: de 1 a 32 entre a e z, 0 e 9 e -.
bad-app-taken = `{ $value }` já quer dizer outra coisa; dê outro nome ao aplicativo.
bad-app-twice = `{ $value }` aparece duas vezes.
bad-base-no-url = não é uma URL com servidor.
bad-base-clear-text = tem de ser https, porque por ali passam tokens; http só serve para a própria máquina.
bad-base-too-much = só pode conter esquema, servidor, porta e caminho.
bad-key-base64 = não é base64.
bad-key-length = uma chave tem 32 bytes em base64; o tamanho desta é { $length }.
bad-key-equal = todos os bytes são iguais: isso é um texto de exemplo, não uma chave.
bad-version = `{ $value }` não é 2021-07-28 nem v3.
bad-url = `{ $value }` não é um endereço com esquema e servidor.
bad-lang = `{ $value }` não é en nem pt-BR.
bad-log = `{ $value }` não é um nível (error, warn, info, debug, trace) nem um filtro.
bad-log-format = `{ $value }` não é human nem json.
bad-user-type = `{ $value }` não é Location nem Company.
bad-id = `{ $value }` não é um ID: 1 a 64 letras e algarismos.
bad-interval = `{ $value }` não é um número inteiro de horas de 1 a 720.
bad-secret-file = { $path }, que a guarda, não pode ser lido: { $why }.
bad-secret-mode = { $path }, que a guarda, pode ser lido por outros (modo { $mode }). Execute: chmod 600 { $path }
bad-secret-no-file = { $path }, que deveria guardá-la, não é um arquivo comum. Indique um arquivo que contém só o segredo.
bad-secret-folder = outros podem pôr um arquivo deles no lugar de { $path } (a pasta tem modo { $mode }). Execute: chmod go-w { $folder }
bad-listen-folder = outros podem pôr um socket deles no lugar de { $path } (a pasta tem modo { $mode }). Execute: chmod go-w { $folder }
var-GHL_CLIENT_ID = O Client ID do aplicativo no marketplace.
var-GHL_CLIENT_SECRET = O Client Secret do aplicativo no marketplace; vários, separados por vírgulas, enquanto você o troca: o antigo primeiro.
var-GHL_REDIRECT_URI = O endereço de redirecionamento registrado no aplicativo.
var-GHL_LOCATION_ID = A sub-conta (location) usada quando o comando não diz qual; veja Settings > Company Profile.
var-GHL_HEALTH_CHECK_CONTACT_ID = O contato que a verificação de saúde lê e marca com a tag.
var-GHL_HEALTH_CHECK_TAG_NAME = A tag cujo workflow avisa que o serviço está vivo.
var-MICROSERVICE_NAME = O nome com que este serviço se apresenta.
var-RUN_INTERVAL_HOURS = Horas entre duas verificações.
var-GHL_AUTHORIZATION_CODE = Um primeiro código de autorização, trocado uma única vez pela primeira verificação.
var-GHL_APPS = Outros aplicativos do Marketplace, por nomes separados por vírgulas. O aplicativo NOME tem configurações próprias: GHL_APP_NOME_CLIENT_ID e assim por diante.
var-GHL_APP = O aplicativo que vale quando um comando não indica nenhum.
var-GHL_STORE = Onde os tokens ficam: file:CAMINHO, sqlite:CAMINHO ou postgres://USUARIO:SENHA@SERVIDOR/BANCO?sslmode=verify-full.
var-GHL_AUTH_KEY = A chave que lacra os tokens: 32 bytes aleatórios em base64 (openssl rand -base64 32). Obrigatória com sqlite: e postgres:.
var-GHL_AUTH_OLD_KEYS = Chaves anteriores, separadas por vírgulas, que ainda podem abrir o que lacraram.
var-GHL_AUTH_SPOOL = Com postgres:, a pasta onde os tokens novos pousam antes de serem salvos; ela precisa durar mais que o programa.
var-GHL_API_BASE_URL = A API do HighLevel.
var-GHL_AUTHORIZE_URL = A página de consentimento do HighLevel, ou o link de instalação do seu aplicativo.
var-GHL_API_VERSION = A versão da API que este programa fala: 2021-07-28 ou v3.
var-GHL_USER_TYPE = A classe da autorização: Location ou Company.
var-GHL_SCOPES = Os escopos a pedir, separados por espaços; sem ela, os do próprio aplicativo.
var-GHL_PRIVATE_TOKEN = Um Private Integration Token em vez de um aplicativo: é verificado, e nunca renovado.
var-GHL_AUTH_LANG = O idioma: en ou pt-BR.
var-GHL_AUTH_LOG = O que é registrado: error, warn, info, debug ou trace.
var-GHL_AUTH_LOG_FORMAT = A forma do registro: human ou json.

## Erros: o que houve e o que fazer

error-configuration = { $count ->
    [1] Uma configuração está errada; nada foi contatado.
   *[other] { $count } configurações estão erradas; nada foi contatado.
  }
    { $list }
    .action = Defina-as em .env ou no ambiente (.env.example explica cada uma) e execute de novo.
error-env_file = { $path } não pode ser lido: { $why }
    .action = Verifique o caminho depois de --env-file e quem pode lê-lo.
error-owner = Não foi possível assumir o usuário dono de { $place }: { $why }
    .action = Inicie o programa como o dono desse arquivo, por exemplo com `docker run --user`.
error-certificates = Os certificados em SSL_CERT_FILE não servem: { $why }
    .action = Aponte SSL_CERT_FILE para um arquivo PEM, ou retire a variável para confiar nas autoridades de costume.
error-not_connected = Ainda não há autorização para { $id }.
    .action = Autorize uma vez: execute `ghl-auth login`.
error-company_trouble = O token da location { $location } vem da autorização da company { $company }, e é nela que está o problema: { $why }
    .action = { $action }
error-not_minted = Não há autorização para a location { $location }, e nenhuma company autorizada traz um token para ela. O HighLevel disse: { $said }
    .action = Verifique se o id está certo e se o app está instalado nessa location (HighLevel: Settings > Company > Installed apps) e autorize: execute `ghl-auth login`.
error-no_grant = Ainda não há autorização.
    .action = Autorize uma vez: execute `ghl-auth login`.
error-which_one = Há várias instalações, ou nenhuma foi indicada.
    .action = Indique uma com --location ou --company, ou defina GHL_LOCATION_ID. `ghl-auth status` mostra todas.
error-which_app = Há vários aplicativos configurados, e nenhum foi indicado: { $list }
    .action = Indique um com --app NOME, ou defina GHL_APP.
error-no_such_app = Nenhum aplicativo chamado { $app } está configurado. Há: { $list }
    .action = Indique um destes com --app ou GHL_APP, ou acrescente o seu a GHL_APPS.
error-one_callback = { $one } e { $other } levam ao mesmo caminho, { $path }: não daria para saber de quem é o código que volta por ali.
    .action = Registre um endereço próprio para cada aplicativo, como https://auth.example.com/apps/{ $app }/oauth/callback, e indique-o em { $other }.
error-needs_person = O HighLevel recusa a autorização de { $id } desde { $since }: { $said }
    .action = Uma pessoa precisa autorizar de novo: execute `ghl-auth login`. Se a sub-conta não aparecer na lista, desinstale antes o aplicativo nela.
error-suspended = O HighLevel diz que { $id } não está ativa (desde { $since }): { $said }
    .action = Reative a sub-conta ou acerte o pagamento dela no HighLevel. A autorização está guardada e voltará a funcionar; não é preciso novo login.
error-invalid_client = O HighLevel recusa as credenciais do aplicativo: { $said }
    .action = Compare GHL_CLIENT_ID e GHL_CLIENT_SECRET com o aplicativo no marketplace (Manage > Secrets). Nenhuma autorização se perdeu.
error-invalid_code = O HighLevel recusa o código de autorização: { $said }
    .action = Um código serve uma vez e por poucos segundos. Execute `ghl-auth login` para obter outro. Se um código novo também for recusado, confira GHL_CLIENT_ID e GHL_CLIENT_SECRET: a resposta do HighLevel é a mesma.
error-unanswered = O HighLevel não deu resposta utilizável ao pedido de token: { $said }
    .action = Nada se perdeu: o mesmo token será enviado na próxima execução. Se continuar, verifique a rede desta máquina.
error-resting = As últimas tentativas de renovar falharam ({ $said }), e a próxima será em { $until }.
    .action = Aguarde, ou execute `ghl-auth refresh` para tentar agora.
error-fresh_token_refused = O HighLevel recusa um access token renovado há menos de um minuto.
    .action = Outra renovação não resolveria. Verifique se o aplicativo continua instalado na sub-conta e se tem os escopos.
error-anonymous_grant = Os tokens não dizem a que location ou company pertencem.
    .action = Defina GHL_LOCATION_ID e tente de novo.
error-parked = A autorização de { $id } chegou por conta própria e espera aprovação.
    .action = Veja com: ghl-auth installs list, e aprove ou recuse.
error-no_room_for = O armazenamento { $place } não tem lugar para isso ({ $what }): um arquivo guarda uma só instalação e nada mais.
    .action = Use GHL_STORE=sqlite:CAMINHO com GHL_AUTH_KEY.
error-store_io = O armazenamento { $place } não pode ser usado: { $why }
    .action = Verifique se a pasta existe, se o disco não está cheio e se este usuário pode escrever ali.
error-store_database = O banco de dados { $place } não pode ser usado: { $why }
    .action = { $cause ->
        [login] Coloque o usuário e a senha certos em GHL_STORE: postgres://USUÁRIO:SENHA@HOST/BANCO, com %40 no lugar de um @ na senha. Quem administra o banco define uma nova no psql: \password USUÁRIO
        [not-let-in] Deixe esta máquina e este usuário entrarem: inclua uma linha para eles no pg_hba.conf do servidor e execute `SELECT pg_reload_conf()` lá. Se a linha diz hostssl, GHL_STORE precisa de sslmode=verify-full.
        [no-database] Indique um banco que exista, no fim de GHL_STORE, ou peça que quem administra o servidor crie um: createdb --owner USUÁRIO BANCO
        [not-allowed] Dê esse direito ao usuário, como quem administra o banco: GRANT CREATE ON DATABASE … TO USUÁRIO; e, se o schema já existe: ALTER SCHEMA … OWNER TO USUÁRIO;
        [unreached] Veja se o servidor está no ar (systemctl status postgresql), se o host e a porta em GHL_STORE são os dele, se ele escuta ali (listen_addresses) e se nenhum firewall está no meio. Os tokens à mão continuam sendo entregues.
        [untrusted] Em GHL_STORE, dê ao servidor o nome que está no certificado e, se uma autoridade sua o assinou, inclua sslrootcert=/caminho/dela.pem. Um certificado vencido se renova no servidor.
        [no-tls] Ligue o TLS no servidor (ssl = on). Se ele está nesta máquina, GHL_STORE pode ter sslmode=disable no lugar.
        [crowded] Dê mais conexões ao servidor (max_connections), ponha um pooler na frente dele ou faça cada programa usar menos, com pool=… em GHL_STORE.
        [table-missing] Uma tabela nossa não está lá: restaure uma cópia inteira do banco. `ghl-auth doctor` diz que parte falta.
       *[other] Verifique se o banco está no ar e pode ser alcançado, se o disco dele não está cheio e se nada mais o prende; se estiver danificado, restaure uma cópia.
    }
error-store_is_folder = { $place } é uma pasta, e deveria ser um arquivo.
    .action = O Docker cria uma pasta quando o arquivo montado não existe. Apague a pasta, crie um arquivo vazio no lugar (touch { $place }) e comece de novo.
error-store_exposed = { $place } não é só deste programa: { $why }
    .action = { $cure }
exposed-link = é um link simbólico.
    .action = Indique o próprio arquivo, não um link para ele.
exposed-hard-links = o mesmo arquivo tem outros nomes.
    .action = Copie-o e use a cópia: cp -p { $place } { $place }.copy && mv { $place }.copy { $place }
exposed-no-file = é um pipe, um dispositivo ou um socket.
    .action = Indique um arquivo comum, ou um que ainda não existe.
exposed-other-owner = pertence ao usuário { $detail }.
    .action = Inicie como esse usuário, ou dê o arquivo a este: chown "$(id -u)" { $place }
exposed-open-folder = outros podem pôr ali arquivos deles (modo { $detail }).
    .action = Execute: chmod go-w { $place }
error-store_unreadable = { $place } não pode ser lido como está: { $why }
    .action = Se tiver uma cópia, ponha-a de volta. Senão, execute `ghl-auth login`; o arquivo ilegível é guardado ao lado do novo.
error-no_key_to_rotate = GHL_AUTH_KEY não está definida; nada está lacrado e não há o que lacrar de novo.
    .action = Defina GHL_AUTH_KEY primeiro; `openssl rand -base64 32` gera uma chave.
error-left_under_old_key = { $count ->
    [1] Um registro não abre com nenhuma das chaves e ainda cita uma antiga.
   *[other] { $count } registros não abrem com nenhuma das chaves e ainda citam uma antiga.
  }
    .action = Todo o resto está sob a chave nova. Mantenha GHL_AUTH_OLD_KEYS por enquanto. Autorize de novo a instalação citada acima, ou remova-a, e execute `ghl-auth rotate-key` outra vez.
error-landed_under_old_key = { $count ->
    [1] Uma resposta do HighLevel chegou ao spool sob uma chave antiga e ainda não foi salva.
   *[other] { $count } respostas do HighLevel chegaram ao spool sob uma chave antiga e ainda não foram salvas.
  }
    .action = Todo o resto está sob a chave nova. Mantenha GHL_AUTH_OLD_KEYS por enquanto: `ghl-auth serve` ou `ghl-auth check` as salva; depois execute `ghl-auth rotate-key` de novo.
error-wrong_key = { $place } está lacrado com a chave { $key }, que não é GHL_AUTH_KEY nem está em GHL_AUTH_OLD_KEYS.
    .action = Defina a chave com que foi lacrado. Nada foi mudado.
error-seal_broken = O lacre de { $place } não confere: foi alterado, ou trazido de outro lugar.
    .action = Restaure uma cópia. Nada foi mudado.
error-key_missing = { $place } está lacrado, e GHL_AUTH_KEY não está definida.
    .action = Defina GHL_AUTH_KEY, ou GHL_AUTH_KEY_FILE, com a chave com que foi lacrado.
error-store_too_new = { $place } foi escrito por uma versão mais nova do ghl-auth.
    .action = Use essa versão. Nada foi mudado.
error-store_poisoned = { $place } não chegou ao disco, e já não se pode confiar no que o sistema diz dele.
    .action = Verifique o disco e comece de novo.
error-store_standby = { $place } está em espera: { $why }. Nada é renovado nem recebido ali, para que dois programas nunca usem a mesma autorização.
    .action = Use o armazenamento que guarda essas autorizações agora. Se é este que deve guardá-las daqui em diante, e o outro saiu de uso para sempre, execute: ghl-auth restore --take-over
error-store_in_the_air = Há uma renovação em andamento em { $place }, por isso não dá para colocá-lo em espera agora.
    .action = Execute o comando de novo em um minuto; nada foi alterado.
error-store_read_only = { $place } é uma réplica de outro banco de dados e não aceita escritas.
    .action = Indique o primário em GHL_STORE (com vários hosts, acrescente target_session_attrs=read-write).
error-lease_lost = Outro processo assumiu a renovação.
    .action = Execute de novo: os tokens do outro serão encontrados.
error-spooled = Os novos tokens estão seguros num arquivo ao lado do armazenamento, que ainda não pode recebê-los: { $why }
    .action = Resolva isso e execute qualquer comando: os tokens são salvos no início.
error-unsaved = Os novos tokens não puderam ser salvos em lugar nenhum: { $why }
    .action = Resolva isso e execute `ghl-auth refresh` em até 30 segundos: o HighLevel dá os mesmos tokens outra vez. Depois disso, uma pessoa terá de fazer login.
error-another_location = O armazenamento guarda a autorização de { $found }, e GHL_LOCATION_ID aponta para { $wanted }.
    .action = Defina GHL_LOCATION_ID com a que você quer verificar, ou execute `ghl-auth login` para a outra.
error-another_class = O armazenamento guarda a autorização de { $found }, e as configurações apontam para { $wanted }.
    .action = Defina GHL_USER_TYPE e GHL_LOCATION_ID conforme o que foi concedido, ou execute `ghl-auth login` de novo.
error-token_refused = O HighLevel recusou o access token ao { $step } ({ $status }): { $said }
    .action = Ele já foi renovado, ou não pode ser. Verifique se o aplicativo continua instalado na sub-conta; se não, execute `ghl-auth login`.
error-private_token_refused = O HighLevel recusou o Private Integration Token ({ $status }): { $said }
    .action = Crie outro em Settings > Private Integrations e defina GHL_PRIVATE_TOKEN.
error-scope_missing = Falta ao token o escopo para { $step } ({ $status }): { $said }
    .action = Acrescente contacts.readonly e contacts.write (sem contato: locations.readonly) ao aplicativo no marketplace e autorize de novo com `ghl-auth login`.
error-wrong_class = O token é da classe errada para { $step } ({ $status }): { $said }
    .action = Um token de company não lê contatos. No aplicativo do marketplace defina o usuário-alvo como "Sub-account" e autorize a sub-conta com `ghl-auth login`.
error-other_location = O token não tem acesso a esta sub-conta ({ $status }): { $said }
    .action = O contato é de outra sub-conta que não a do token. Compare GHL_LOCATION_ID e GHL_HEALTH_CHECK_CONTACT_ID.
error-version_refused = O HighLevel recusa a versão da API ({ $status }): { $said }
    .action = Defina GHL_API_VERSION como 2021-07-28 ou v3.
error-location_not_active = O HighLevel diz que a sub-conta não está ativa: { $said }
    .action = Reative a sub-conta ou acerte o pagamento dela no HighLevel. A autorização está guardada.
error-contact_not_found = Não existe esse contato na sub-conta: { $said }
    .action = Defina GHL_HEALTH_CHECK_CONTACT_ID com um contato desta sub-conta: o ID está no endereço da página do contato.
error-rate_limited = O HighLevel diz que houve pedidos demais ao { $step }: { $said }
    .action = O aplicativo divide 100 pedidos em 10 segundos com todos os que o usam nesta sub-conta. Espere um pouco, e veja quem mais faz chamadas.
error-unavailable = O HighLevel está com problemas ao { $step } ({ $status }): { $said }
    .action = Aqui está tudo certo. Espere e execute de novo.
error-unreachable = Não foi possível alcançar o HighLevel ao { $step }: { $said }
    .action = Verifique a rede desta máquina, o DNS e GHL_API_BASE_URL.
error-no_answer = O HighLevel não respondeu ao { $step }: { $said }
    .action = Tente de novo. Se continuar, verifique a rede desta máquina.
error-unreadable_answer = Não dá para entender a resposta do HighLevel ao { $step }: { $said }
    .action = Verifique GHL_API_BASE_URL. Se estiver certa, o HighLevel pode ter mudado a API: procure uma versão mais nova deste programa.
error-refused = O HighLevel recusou ao { $step } ({ $status }): { $said }
    .action = Procure essas palavras na documentação do HighLevel, ou execute `ghl-auth check --json` e passe o trace id ao suporte do HighLevel.
error-workflow_silent = A tag foi adicionada, e o workflow não a removeu em { $seconds } s.
    .action = No HighLevel, verifique se o workflow está publicado, se o gatilho é "Tag Added" com exatamente esta tag e se a última ação é "Remove Tag".
error-no_code = Não há código de autorização nisso.
    .action = Cole o endereço inteiro que o navegador mostra depois da autorização; ele contém "code=".
error-wrong_state = Esse endereço é de outro login.
    .action = Abra o último endereço mostrado e cole o que resultar dele.
error-nobody_answered = Ninguém colou um endereço nem um código.
    .action = Execute `ghl-auth login` num terminal, ou passe com --code o que o navegador mostrar.
error-consent_refused = A página de consentimento do HighLevel respondeu: { $said }
    .action = Execute `ghl-auth login` de novo e autorize o aplicativo.
error-import_unreadable = { $path } não pode ser importado: { $why }
    .action = Indique o ghl_tokens.json do modelo. Se os tokens se perderam, execute `ghl-auth login`.
error-import_present = O armazenamento já tem outra autorização para { $id }.
    .action = Importar uma mais antiga perderia a mais nova. Se o arquivo for o mais novo, execute de novo com --replace.
error-confirm = Não há ninguém num terminal para confirmar que este armazenamento assume.
    .action = Quando o armazenamento de onde ele foi copiado estiver fora de uso para sempre, execute de novo com --yes.
error-not_confirmed = Isso não foi confirmado; nada foi alterado.
    .action = Execute de novo e digite as palavras pedidas.
error-restore_not_empty = { $place } já guarda autorizações.
    .action = Restaure num armazenamento vazio, ou acrescente a este com --merge: o que é mais novo aqui fica.
error-migrate_address = Isso não é um endereço de armazenamento: { $why }
    .action = Escreva --from e --to como em GHL_STORE: sqlite:CAMINHO, ou file:CAMINHO para --from.
error-migrate_same = Os dois endereços indicam o mesmo armazenamento.
    .action = Indique com --from o armazenamento onde estão as autorizações, e com --to o novo.
error-migrate_to_file = Um arquivo tem lugar para uma só instalação, por isso nada é migrado para um.
    .action = Migre para um banco de dados. Uma única autorização vai para um arquivo com: ghl-auth export
error-migrate_nothing = Não há armazenamento em { $place }.
    .action = Confira o endereço depois de --from.
error-migrate_target_in_use = { $place } já guarda autorizações próprias.
    .action = Migre para um armazenamento vazio.
error-migrate_landings = { $count ->
    [1] Uma resposta do HighLevel espera ao lado de { $place } e não pode ser salva, por isso nada foi copiado.
   *[other] { $count } respostas do HighLevel esperam ao lado de { $place } e não podem ser salvas, por isso nada foi copiado.
  }
    .action = Inicie o serviço uma vez sobre { $place } com as configurações dele, até o log dizer que foram salvas; para isso, volte com --give-up.
error-migrate_differs = A cópia de { $id } não está como na origem, por isso o novo armazenamento não entrou em serviço.
    .action = Execute o mesmo comando de novo. Se disser isso outra vez, volte com --give-up e comece com um armazenamento vazio.
error-migrate_stopped = { $why } A mudança não terminou: os dois armazenamentos estão em espera, e nenhuma autorização se perdeu.
    .action = { $cure } Depois execute o mesmo comando de novo, e ele continua. Ou volte: o mesmo comando com --give-up.
error-migrate_not_begun = Nada está a caminho de { $from } para { $to }.
    .action = --give-up desfaz um migrate iniciado com os mesmos dois endereços.
error-migrate_used = { $id } já foi usada em { $to } depois da mudança, por isso não há volta: os tokens antigos já foram gastos.
    .action = Fique com o novo armazenamento; ou mova tudo de volta com migrate, dele para um vazio.
error-rotate_all_stopped = Parou antes de todas as autorizações terem tokens novos; nenhuma renovação ficou no ar.
    .action = Continue com: ghl-auth rotate-all --since { $since }
error-output = A resposta não pôde ser escrita: { $why }
    .action = Verifique para onde vai a saída.
error-exec = { $program } não pôde ser iniciado: { $why }
    .action = Verifique o comando depois de `--`.
error-stopped = Parado antes do fim. Uma renovação que ainda estava a caminho é retomada pela próxima execução.
    .action = Execute de novo.
error-schedule = { $program } não fez o que foi pedido: { $why }
    .action = Nada mais foi mudado. Execute-o à mão para ver mais, ou use o outro agendador (`--systemd`).
error-schedule_interval = O cron não consegue manter um intervalo de { $hours } h de um dia para o outro.
    .action = Defina RUN_INTERVAL_HOURS como um destes: { $neighbours }; ou use `ghl-auth schedule install --systemd`, que aceita qualquer um.
error-schedule_no_env = Não há arquivo .env aqui, e um agendamento não tem outras configurações.
    .action = Ponha as configurações em .env, ou indique o arquivo com --env-file.
error-schedule_apps = Um agendamento executa uma verificação só, e aqui há vários aplicativos, ou um foi indicado com --app.
    .action = Use `ghl-auth serve`, que verifica todos os aplicativos sozinho, ou faça o seu próprio agendador executar `ghl-auth --app NOME check` para cada um.
error-container_layer = { $place } se perderia com este contêiner: nada está montado ali.
    .action = Crie um arquivo vazio na máquina (touch ghl_tokens.json) e monte-o: docker run -v "$PWD/ghl_tokens.json:/app/ghl_tokens.json" …
error-container_layer_spool = { $place }, onde os tokens novos pousam antes de serem salvos, se perderia com este contêiner: nada está montado ali.
    .action = Monte um volume que seja só deste contêiner e indique uma pasta dele em GHL_AUTH_SPOOL.
error-schedule_unit_there = { $path } já existe e não foi escrito por este comando.
    .action = Continue usando essa unidade, ou retire-a antes.
error-nothing_to_refresh = Um Private Integration Token nunca muda, então não há o que renovar.
    .action = Renove-o no HighLevel em Settings > Private Integrations, ou retire GHL_PRIVATE_TOKEN para renovar as autorizações do aplicativo.
error-sandbox_listen = O sandbox não consegue escutar em { $address }: { $why }
    .action = Indique com --listen um endereço livre desta máquina, como 127.0.0.1:8790.
error-write_env = { $path } não pode ser escrito: { $why }
    .action = Indique um arquivo que ainda não exista: um .env pode guardar segredos de verdade, então nunca é sobrescrito.
error-demo = A demonstração não pôde começar: { $why }
    .action = Verifique se este usuário pode escrever na pasta temporária e escutar em 127.0.0.1.

## Por que algo não pode ser lido

reason-it-is-empty = está vazio
reason-it-is-sealed = está lacrado
reason-it-holds-no-access-token = não contém access token
reason-it-holds-no-refresh-token = não contém refresh token
reason-it-is-no-text = não é texto
reason-it-is-no-JSON-object = não é um objeto JSON
reason-its-tokens-name-neither-a-location-nor-a-company = os tokens não dizem a que location ou company pertencem
reason-it-is-no-database = não é um banco de dados
reason-the-database-is-damaged = o banco de dados está danificado
reason-it-is-another-program-s-database = é o banco de dados de outro programa
reason-it-ends-in-the-middle = termina no meio
reason-it-ends-in-the-middle--and-no-access-token-is-whole-before-that = termina no meio, e antes disso não há access token inteiro
reason-it-ends-in-the-middle--and-no-refresh-token-is-whole-before-that = termina no meio, e antes disso não há refresh token inteiro
reason-its-tokens-are-not-of-the-resource-that-it-names = seus tokens não são do recurso que ela indica
reason-it-has-no-credentials--fetch-each-connection-by-itself = ela não tem credenciais: busque cada conexão separadamente
reason-it-is-a-credential-for-another-service = é uma credencial de outro serviço
reason-nobody-has-connected-it-yet = ninguém a conectou ainda
reason-it-is-encrypted--export-it-with---decrypted = está cifrada: exporte com --decrypted
reason-the-store-has-a-newer-grant--or-one-of-the-same-time = o armazenamento tem uma autorização mais nova, ou da mesma hora
reason-it-is-no-archive-of-this-program = não é um arquivo de backup deste programa
reason-it-is-no-JSON = não é JSON
reason-it-could-not-be-read = não pôde ser lido
reason-it-is-too-large-to-be-a-token-file = é grande demais para um arquivo de tokens
reason-a-member-is-missing-or-of-another-kind = um campo falta ou é de outro tipo
reason-its-company-is-no-id = a company dele não é um ID
reason-no-answer = nenhuma resposta
reason-no-answer-in-time = nenhuma resposta a tempo
reason-no-answer-within-30-seconds = nenhuma resposta em 30 segundos
reason-the-answer-is-not-JSON = a resposta não é JSON
reason-the-answer-has-no--contact- = a resposta não traz `contact`
reason-the-token-reply-is-not-a-whole-JSON-object = a resposta com os tokens não é um objeto JSON inteiro
reason-the-token-reply-has-no-usable--access-token- = a resposta não traz um `access_token` utilizável
reason-the-token-reply-has-no-usable--refresh-token- = a resposta não traz um `refresh_token` utilizável
reason-the-grant-has-no-refresh-token-of-its-own = a autorização não tem refresh token próprio
reason-another-process-has-been-refreshing-for-too-long = outro processo está renovando há tempo demais
reason-the-request-broke-off-inside-this-program = o pedido se interrompeu dentro deste programa
reason-the-refresh-broke-off-inside-this-program = a renovação se interrompeu dentro deste programa
reason-the-token-holds-characters-that-no-header-can-carry = o token contém caracteres que nenhum cabeçalho leva

## Enganos na linha de comando

usage-unknown-argument = Não conheço `{ $argument }`. Veja: { $command }
usage-unknown-command = Não existe o comando `{ $argument }`. Veja: { $command }
usage-missing = Falta algo: `{ $argument }`. Veja: { $command }
usage-conflict = `{ $argument }` e `{ $other }` se excluem. Veja: { $command }
usage-bad-value = `{ $value }` não serve para { $argument }. Veja: { $command }
usage-other = Não entendi. Veja: { $command }

## Ajuda

help = Mantém viva a conexão com o GoHighLevel, prova que está viva e entrega tokens válidos.
help-usage = Uso:
help-options = Opções
help-options-name = [OPÇÕES]
help-commands = Comandos
help-command-name = COMANDO
man-name = NOME
man-synopsis = SINOPSE
man-description = DESCRIÇÃO
man-options = OPÇÕES
man-commands = COMANDOS
man-more = NOTAS
man-version = VERSÃO
help-after = Sem comando: check. As configurações vêm do ambiente e do .env; .env.example explica cada uma.
    Códigos de saída: 0 operacional, 1 a verificação falhou, 2 uso ou configuração errada,
    3 uma pessoa precisa autorizar, 4 o HighLevel ou o armazenamento não pode ser alcançado.
help-check = O trabalho principal: renova se preciso, lê o contato, adiciona a tag, relata.
help-login = Autoriza uma vez, no navegador.
help-token = Mostra um access token válido, e nada mais.
help-exec = Executa um comando com GHL_ACCESS_TOKEN no ambiente dele.
help-status = Mostra cada instalação: saúde, token, última verificação e o que fazer.
help-refresh = Obtém novos tokens agora, por mais novos que sejam os atuais.
help-rotate-key = Lacra tudo de novo sob GHL_AUTH_KEY, com o serviço no ar.
    .more = Antes, informe a chave nova em GHL_AUTH_KEY e a anterior entre GHL_AUTH_OLD_KEYS, também ao serviço, e reinicie-o. Se for interrompido, continua de onde parou.
help-import = Recebe autorizações: o ghl_tokens.json do modelo em Python, ou muitas de uma vez de outros programas.
    .more = Formatos, reconhecidos pelo conteúdo do arquivo:
          template  o ghl_tokens.json do modelo em Python, inteiro ou cortado
          jsonl     respostas de token do HighLevel, uma por linha
          mongodb   as sessões do SDK oficial, como o mongoexport as escreve
          nango     conexões, como a API do Nango as dá com suas credenciais
          n8n       o que o n8n escreve com export:credentials --all --decrypted
        Nada do que está aqui é substituído por algo mais antigo, a menos que se use --replace.
help-backup = Escreve tudo o que o armazenamento guarda num só arquivo selado, com o serviço em execução.
help-restore = Põe um backup no armazenamento, que fica em espera até receber a ordem de assumir.
help-migrate = Move todas as autorizações de um armazenamento para outro.
    .more = Enquanto isso os dois ficam em espera, para que nenhuma autorização seja renovada duas vezes.
        Executado de novo depois de uma parada, continua. Os dois são abertos com GHL_AUTH_KEY e
        GHL_AUTH_OLD_KEYS; o novo é selado com GHL_AUTH_KEY.
help-rotate-all = Depois de um vazamento: obtém já tokens novos para todas as autorizações.
help-export = Escreve uma autorização no formato do modelo.
help-schedule = Agenda a verificação a cada RUN_INTERVAL_HOURS, por cron ou systemd, ou mantém o serviço no ar.
help-schedule-show = Mostra a entrada.
help-schedule-install = Escreve a entrada, sem tocar em nenhuma outra.
help-schedule-remove = Retira a entrada, sem tocar em nenhuma outra.
help-sandbox = Roda um HighLevel de brinquedo nesta máquina, para experimentar e testar.
    .more = Experimente:
          ghl-auth sandbox --write-env sandbox.env &
          ghl-auth --env-file sandbox.env login
          ghl-auth --env-file sandbox.env check
        Uma agência sem internet, com quantas locations você quiser; o serve encontra todas:
          ghl-auth sandbox --locations 200 --write-env agency.env &
          ghl-auth --env-file agency.env login
          ghl-auth --env-file agency.env serve &
          ghl-auth --env-file agency.env status
        Provoque falhas e veja o que houve, no navegador em http://127.0.0.1:8790/ ou com curl:
          curl -d '{"{"}"fault":"lose_answer","on":"refresh"{"}"}' http://127.0.0.1:8790/_sandbox/faults
          curl http://127.0.0.1:8790/_sandbox/ledger
help-demo = Mostra o trabalho inteiro no sandbox, sem nada a configurar.
help-completions = Mostra o complemento de comandos para um shell: bash, elvish, fish, powershell, zsh.
help-man = Mostra a página de manual.
arg-help = Mostra esta ajuda.
arg-version = Mostra a versão.
arg-env_file = Lê as configurações deste arquivo em vez de .env.
arg-app = Qual aplicativo, quando há vários (veja GHL_APPS).
arg-json = Responde com um documento JSON.
arg-wait_for_workflow = Espera este tempo que o workflow remova a tag, e falha se ele não remover.
arg-code = O código de autorização, ou o endereço que o contém.
arg-no_browser = Não tenta abrir o navegador.
arg-location = A location (sub-conta).
arg-company = A company (agência).
arg-minimum_life = Quanto o token ainda deve viver, no mínimo: 90s, 10m, 1h. Padrão: 10m.
arg-header = Mostra um cabeçalho para curl -H @- em vez do token puro.
arg-program = O comando e os argumentos dele.
arg-all = Todas as instalações.
arg-status-company = Só esta company e as locations dela.
arg-state = Só as que estão assim: connected, uncertain, suspended, broken.
arg-search = Só as que têm este texto no id ou no nome.
arg-sort = Em que ordem: id (padrão), expires_at, checked_at.
arg-limit = No máximo tantas. Padrão: 50; com --json, todas.
arg-status-all = Todas, quantas forem.
arg-path = O arquivo.
arg-replace = Substitui uma autorização que o armazenamento já tem.
arg-format = Toma o arquivo por: template, jsonl, mongodb, nango ou n8n. Padrão: conforme o conteúdo.
arg-dry_run = Diz o que seria recebido, e não recebe nada.
arg-take_over = Põe o armazenamento em serviço: aquele de onde ele foi copiado saiu de uso para sempre.
arg-merge = Acrescenta a um armazenamento que já guarda autorizações; o que é mais novo lá fica.
arg-yes = Não pergunta nada.
arg-from = O armazenamento onde estão as autorizações: sqlite:CAMINHO, postgres://… ou file:CAMINHO.
arg-to = O armazenamento onde elas devem ficar: sqlite:CAMINHO ou postgres://…
arg-give_up = Volta: põe o armazenamento antigo em serviço de novo, se o novo nunca foi usado.
arg-since = Pula autorizações cujos tokens são deste momento ou posteriores: 2026-11-25T23:10:00Z.
arg-output = Escreve neste arquivo novo em vez de stdout.
arg-systemd = Usa um timer do systemd em vez do cron.
arg-service = Faz o systemd manter no ar o serviço (`serve`), que faz as verificações sozinho.
arg-listen = Onde escutar, só nesta máquina. Padrão: 127.0.0.1:8790.
arg-write_env = Escreve neste arquivo novo um .env completo para o sandbox.
arg-locations = Vira uma agência com este número de locations, e o .env escrito é o de quem atende todas elas.
arg-once = Termina depois de mostrar tudo.
arg-shell = O shell.

## The service

serve-private = Os programas pedem aqui: { $address }
serve-public = Os navegadores voltam aqui: { $address }/oauth/callback
serve-stopping = Encerrando: o que está em andamento termina antes. Mais uma vez para parar já.
serve-doors-stay = O serviço escuta onde escutava: um novo endereço ou arquivo de certificado exige reiniciar.
error-listen = Não é possível escutar em { $address }: { $why }
    .action = Defina em GHL_AUTH_LISTEN ou GHL_AUTH_PUBLIC_LISTEN um endereço livre e que este usuário possa usar.
error-threads = Nenhuma thread pôde ser iniciada: { $why }
    .action = Aumente os limites deste usuário ou container e inicie de novo.
error-stop_took_too_long = Depois de 60 segundos algo ainda estava em andamento; será retomado na próxima vez.
    .action = Inicie o serviço de novo em breve.
error-probe = Nenhum serviço responde em { $address }.
    .action = Inicie-o com: ghl-auth serve.
error-certificate_files = O certificado ou a chave dele não pode ser usado: { $why }
    .action = Aponte GHL_AUTH_TLS_CERT e GHL_AUTH_TLS_KEY para arquivos PEM que combinem e que este usuário possa ler.

## API keys

key-made = A chave { $name } é mostrada só desta vez; dela se guarda apenas um hash:
keys-none = Ainda não há chave de API. Crie uma com: ghl-auth keys create --name NOME --location ID
key-revoked = A chave { $name } não vale mais para nada.
key-good = válida
key-good-until = válida até { $at }
key-expired-at = expirou em { $at }
key-revoked-at = revogada em { $at }
reach-all = todas as instalações
error-key_name_taken = Já existe uma chave chamada { $name }.
    .action = Escolha outro nome ou revogue essa chave antes.
error-key_not_for_gateway = --lane e --allow tratam do gateway, que esta chave não pode usar.
    .action = Acrescente --verb gateway.
error-bad_allow = "{ $value }" não diz o que a chave pode enviar.
    .action = Dê métodos em maiúsculas e um caminho desde a /, como 'GET,POST /contacts/*': * vale por qualquer método ou por uma parte do caminho, ** no fim pelo resto.
error-key_unknown = Nenhuma chave válida se chama { $name }.
    .action = Procure com: ghl-auth keys list.
head-key = Chave
head-name = Nome
head-verbs = Pode
head-reach = Para
head-state = Situação
head-last-use = Último uso

## Installs that came by themselves

installs-none = Nenhuma instalação espera aprovação.
install-approved = { $id } passa a ser atendida.
install-refused = A instalação de { $id } foi recusada, e os tokens dela foram descartados.
installs-none-removed = Nada está fora de serviço.
install-restored = { $id } volta a ser atendida. Se o usuário desinstalou o aplicativo, o HighLevel vai recusar o token; nesse caso, uma pessoa precisa instalar de novo.
installs-restored-with = { $count ->
    [1] Uma localização que saiu junto com { $id } também volta a ser atendida.
   *[other] { $count } localizações que saíram junto com { $id } também voltam a ser atendidas.
}
error-not_removed = { $id } não está fora de serviço com os tokens guardados, ou já passou de 30 dias.
    .action = Veja com: ghl-auth installs removed.
head-removed = Desde
head-tokens = Tokens
tokens-kept = guardados
tokens-none = nenhum
error-not_parked = Nenhuma instalação de { $id } espera aprovação.
    .action = Veja com: ghl-auth installs list.
head-came = Chegou
head-scopes = Escopos

bad-listen = "{ $value }" não é um endereço para escutar: HOST:PORTA ou unix:CAMINHO
bad-public-listen = a porta pública precisa de HOST:PORTA
bad-listen-exposed = { $value } pode ser alcançado por outras máquinas; se é o que você quer, diga com --i-expose-the-private-api
bad-listen-clear-text = { $value } pode ser alcançado por outras máquinas e precisa de GHL_AUTH_TLS_CERT e GHL_AUTH_TLS_KEY
bad-tls-half = GHL_AUTH_TLS_CERT e GHL_AUTH_TLS_KEY andam juntas
bad-host = "{ $value }" não é um nome de host
bad-switch = "{ $value }" não é on nem off
bad-webhook-key-text = isto não é uma lista de chaves públicas: cada uma em PEM ou base64, separadas por vírgulas
bad-webhook-key-kind = uma das chaves é de outro tipo
bad-webhook-key-weak = uma das chaves é fraca: qualquer um poderia assinar por ela
bad-installs = "{ $value }" não é approve, allowlist nem open
bad-allowlist-empty = GHL_AUTH_INSTALLS=allowlist precisa de ao menos um ID aqui
bad-audit = "{ $value }" não é counted nem each
bad-gateway-budget = "{ $value }" não é observe nem enforce
bad-gateway-limits = "{ $value }" não é app nem sandbox-pit
bad-gateway-http = "{ $value }" não é 1.1 nem 2
var-GHL_AUTH_LISTEN = onde os programas pedem ao serviço: HOST:PORTA ou unix:CAMINHO
var-GHL_AUTH_PUBLIC_LISTEN = aonde os navegadores voltam, e nada mais é respondido
var-GHL_AUTH_HOSTS = outros nomes pelos quais o serviço é chamado, separados por vírgulas
var-GHL_AUTH_TLS_CERT = o certificado do serviço, com a cadeia, em PEM
var-GHL_AUTH_TLS_KEY = a chave do certificado do serviço, em PEM
var-GHL_AUTH_INSTALLS = o que se faz com instalações do marketplace que chegam sozinhas: approve, allowlist ou open
var-GHL_AUTH_ALLOWED_INSTALLS = as locations e companies da lista de permitidas, separadas por vírgulas
var-GHL_WEBHOOK_PUBLIC_KEYS = as chaves públicas (Ed25519) do HighLevel para webhooks, separadas por vírgulas; sem isto, a que ele publica
var-GHL_WEBHOOK_LEGACY_RSA = se webhooks só com a assinatura RSA antiga são aceitos: on ou off
var-GHL_WEBHOOK_RSA_PUBLIC_KEY = a chave pública do HighLevel para a assinatura antiga; sem isto, a que ele publica
var-GHL_AUTH_AUDIT = como se anota quem pegou qual token: counted ou each
var-GHL_AUTH_GATEWAY_BUDGET = se os pedidos esperam a vez dentro do limite de chamadas do HighLevel: observe (não esperam) ou enforce
var-GHL_AUTH_GATEWAY_LIMITS = o que se toma por limite do HighLevel até que ele o diga: app ou sandbox-pit
var-GHL_AUTH_GATEWAY_HTTP = em que versão do HTTP o gateway fala com o HighLevel: 1.1 ou 2
var-GHL_AUTH_GATEWAY_MAX_BODY_MIB = o maior corpo que o gateway aceita, em MiB; 0 para qualquer um
var-GHL_AUTH_GATEWAY_AT_ONCE = quantos pedidos de uma chave de API passam pelo gateway ao mesmo tempo

help-serve = Mantém cada autorização em dia pelo relógio e entrega tokens a qualquer programa da máquina.
    .more = Pare com Ctrl-C ou SIGTERM; SIGHUP lê de novo as variáveis e segredos, menos onde o serviço escuta.
help-keys = Chaves de API para os programas que pedem ao serviço.
help-keys-create = Cria uma chave e a mostra só desta vez.
help-keys-list = Mostra as chaves: o que podem, para quem, e quando foram usadas pela última vez.
help-keys-revoke = Encerra uma chave, pelo nome ou pela parte dela que é mostrada.
help-installs = Instalações do marketplace que chegaram sozinhas e esperam aprovação.
help-installs-list = Mostra quais são.
help-installs-approve = Passa a atender uma delas.
help-installs-removed = Mostra o que está fora de serviço e guardado por 30 dias.
help-installs-restore = Devolve uma ao serviço.
help-installs-refuse = Descarta uma delas.
arg-i_expose_the_private_api = Escuta além desta máquina, como diz GHL_AUTH_LISTEN; exige TLS.
arg-probe = Só pergunta se um serviço responde, para a verificação de saúde de um container.
arg-name = Como você a chama.
arg-key_location = Uma location para a qual ela vale; pode ser repetido.
arg-key_company = Uma company para a qual ela vale, o que não inclui as locations dela; pode ser repetido.
arg-key_all = Vale para todas as instalações, atuais e futuras.
arg-verb = O que ela pode: token (padrão), gateway ou admin; pode ser repetido.
arg-lane = Quem passa primeiro no gateway quando o limite do HighLevel aperta: interactive (padrão), ou batch para o que ninguém espera.
arg-allow = O que ela pode enviar pelo gateway, como 'GET,POST /contacts/*'; pode ser dado várias vezes. * vale por uma parte, ** no fim pelo resto. Sem isto: qualquer coisa.
arg-expires = Por quanto tempo vale: 90d, 12h. Sem isso, até ser revogada.
arg-key = O nome da chave, ou a parte dela que é mostrada.

## What the service answers programs

api-no_key = O pedido não traz chave de API.
    .action = Envie o cabeçalho Authorization: Bearer ghlk_…; ghl-auth keys create cria uma chave.
api-wrong_key_sent = Essa chave de API não existe.
    .action = Confira o que foi enviado; ghl-auth keys create cria uma chave nova.
api-key_expired = A chave de API expirou.
    .action = Crie outra com: ghl-auth keys create.
api-key_revoked = A chave de API foi revogada.
    .action = Crie outra com: ghl-auth keys create.
api-key_exposed = A chave de API veio no endereço, em um formulário ou em um cookie, onde outros a guardam.
    .action = Envie-a no cabeçalho Authorization: Bearer ghlk_… e revogue a que foi enviada, se outros podem tê-la visto.
api-too_many_wrong_keys = Vieram chaves de API erradas demais deste endereço.
    .action = Espere o tempo que Retry-After diz. Uma chave certa é atendida mesmo assim.
api-wrong_verb = A chave de API não pode fazer isso.
    .action = Use uma chave com o verbo necessário; veja ghl-auth keys list.
api-out_of_reach = A chave de API não vale para essa instalação.
    .action = Use uma chave que valha; veja ghl-auth keys list.
api-not_found = Não há nada neste caminho.
    .action = Veja em /openapi.json o que existe.
api-method_not_allowed = Este caminho não aceita esse método.
    .action = Veja em /openapi.json o que ele aceita.
api-unknown_host = O serviço não se chama por esse nome.
    .action = Chame-o pelo endereço, ou acrescente o nome a GHL_AUTH_HOSTS.
api-bad_request = O pedido não faz sentido aqui.
    .action = Envie um pedido HTTP/1.1 simples, com um só cabeçalho Host.
api-target_too_long = O endereço do pedido é longo demais.
    .action = Envie menos nele.
api-bad_id = Isso não é um ID do HighLevel: 1 a 64 letras, dígitos, - ou _, depois de location ou company.
    .action = Corrija o ID.
api-bad_minimum_life = minimum_life é um número de segundos de 0 a 86400.
    .action = Corrija o valor ou deixe-o de fora.
api-bad_query = A consulta tem um parâmetro desconhecido, repetido ou sem valor válido.
    .action = Veja os parâmetros em /openapi.json.
api-bad_body = O corpo não é o JSON esperado aqui.
    .action = Veja a forma dele em /openapi.json.
api-body_too_long = O corpo passa de 64 KiB.
    .action = Envie menos.
api-body_too_slow = O corpo não chegou em 10 segundos.
    .action = Envie-o de uma vez.
api-took_too_long = A resposta demorou demais. O que foi começado termina mesmo assim.
    .action = Peça de novo daqui a pouco.
api-internal = Algo quebrou dentro do programa.
    .action = Relate com o x-request-id desta resposta.
api-no_room = O armazenamento não tem lugar para isso: um arquivo guarda uma só instalação e nada mais.
    .action = Use GHL_STORE=sqlite:CAMINHO com GHL_AUTH_KEY.
api-standby = Este armazenamento está em espera: outro guarda essas autorizações, por isso nada é renovado nem recebido aqui.
    .action = Pergunte ao serviço que guarda essas autorizações agora, ou faça este guardá-las com: ghl-auth restore --take-over
api-store_unavailable = O armazenamento não pode ser usado no momento.
    .action = Tente de novo em breve; o log do serviço diz o que há de errado.
api-store_out_of_reach = Não é possível acessar o banco de dados: este token vem da memória, e o que mudou nesse meio-tempo não é conhecido aqui.
    .action = Use o token. Quem opera o serviço encontra no log o que há de errado com o banco de dados.
api-app_closed = O armazenamento deste aplicativo não pôde ser aberto; por isso, nada dele é atendido no momento.
    .action = Tente de novo em breve; o serviço continua tentando, e o log dele diz o que há de errado com o armazenamento.
api-not_ready = O serviço não está pronto.
    .action = O log do serviço diz o que há de errado.
api-not_parked = Nenhuma instalação assim espera aprovação.
    .action = Veja /v1/parked.
api-not_removed = Nada disso está fora de serviço com os tokens guardados, ou já passou de 30 dias.
    .action = Veja o que está guardado com: ghl-auth installs removed.
api-not_signed = O webhook não traz a assinatura do HighLevel.
    .action = Só o HighLevel envia para cá. Se é ele mesmo, compare GHL_WEBHOOK_PUBLIC_KEYS com as chaves que ele publica.
api-odd_webhook = O webhook está assinado, mas não é um evento.
    .action = Relate com o x-request-id desta resposta.
api-untimely_webhook = O webhook fala de outro tempo: mais de 5 minutos à frente, ou mais de 3 dias atrás.
    .action = Confira o relógio desta máquina.
api-not_plain_json = Aqui só se aceita application/json, sem compressão.
    .action = Envie o corpo como ele é, com esse tipo de conteúdo.
api-webhook_too_long = O corpo passa de 256 KiB.
    .action = Envie menos.
api-too_many_webhooks = Este endereço envia webhooks demais.
    .action = Envie de novo daqui a um segundo.
api-bad_target = O endereço depois de /gateway pode ser lido de mais de um jeito: tem partes vazias ou só de pontos, uma barra, um ponto ou um sinal de porcento escapado, ou um caractere que não cabe ali.
    .action = Escreva cada parte do caminho por extenso e escape só espaços e letras fora do ASCII.
api-which_installation = Não está claro de qual location ou company se trata.
    .action = Indique uma no cabeçalho x-location-id ou x-company-id; choices lista as possíveis.
api-not_allowed = A chave de API não pode enviar isso: a lista dela não tem esse método e caminho.
    .action = Envie aquilo para que a chave serve, ou crie uma com --allow para isto: ghl-auth keys create.
api-tokens_stay = Os tokens do próprio HighLevel não se pedem pelo gateway: um que fosse trocado pelas costas do serviço ficaria perdido para ele.
    .action = Peça ao próprio serviço: GET /v1/locations/ID/token.
api-too_many_at_once = Há pedidos demais desta chave de API a caminho ao mesmo tempo.
    .action = Espere por alguns deles, ou aumente GHL_AUTH_GATEWAY_AT_ONCE.
api-rate_budget_spent = Não houve vez no tempo que o pedido pode esperar: o HighLevel só aceita um tanto de chamadas para esta location ou company.
    .action = Envie de novo depois de Retry-After, ou deixe-o esperar mais com Prefer: wait=SEGUNDOS.
api-daily_quota_spent = O HighLevel não aceita mais chamadas para esta location ou company hoje.
    .action = Envie de novo depois de Retry-After.
api-gateway_body_too_long = O corpo passa do que o gateway aceita.
    .action = Envie menos, ou aumente GHL_AUTH_GATEWAY_MAX_BODY_MIB.
api-highlevel_unreachable = Não é possível alcançar o HighLevel, então nada foi enviado.
    .action = Envie de novo daqui a pouco; ghl-auth check diz mais.
api-highlevel_odd_answer = A conexão com o HighLevel caiu, ou o que veio não é uma resposta íntegra. Não se sabe se o pedido teve efeito.
    .action = Veja se teve, depois envie de novo.
api-highlevel_no_answer = O HighLevel não respondeu em um minuto. Não se sabe se o pedido teve efeito.
    .action = Veja se teve, depois envie de novo.
hint-token_refused = O HighLevel recusa o token, e não foi possível obter outro, ou outro não resolve. Veja ghl-auth status.
hint-not_sent_again = O token foi recusado e já existe um novo, mas o pedido não foi reenviado. Envie de novo.
hint-private_token_refused = O HighLevel recusa o Private Integration Token. Crie um novo no HighLevel e ponha-o em GHL_PRIVATE_TOKEN.
hint-scope_missing = Falta ao token o escopo para isto. Acrescente-o ao aplicativo e autorize de novo.
hint-wrong_class = Isto pede um token da outra classe, location ou company. Indique uma em x-location-id ou x-company-id.
hint-other_location = O token é de outra location, não daquela de que o pedido trata. Indique a certa em x-location-id.
hint-version_refused = O HighLevel não aceita esta Version. Deixe o cabeçalho de fora, e o gateway o preenche.
hint-not_active = A location está pausada ou sem pagamento, ou a agência dela está inativa.
hint-rate_limited = O HighLevel não aceita mais chamadas por ora. Com GHL_AUTH_GATEWAY_BUDGET=enforce o gateway espera em vez disso.
api-no_app = Nenhum aplicativo está configurado, então não há o que autorizar.
    .action = Defina GHL_CLIENT_ID, GHL_CLIENT_SECRET e GHL_REDIRECT_URI.

## What a browser shows

page-language = pt-BR
page-language-name = Português (Brasil)
page-button = Continuar
page-start = Conectar ao HighLevel
    .more = A próxima página é do HighLevel: escolha ali a location ou a agência; a volta para cá é automática.
page-no-link = Este link não está inteiro
    .more = Peça outro a quem o enviou.
page-link-used = Este link já foi usado ou expirou
    .more = Um link funciona uma vez, por dez minutos. Peça outro.
page-no-app = Nada a autorizar
    .more = Este serviço não tem aplicativo configurado.
page-only-looking = Nada foi gasto
    .more = Abra esta página em um navegador para continuar.
page-odd = Este endereço não faz sentido
    .more = Comece de novo com outro link.
page-refused = O HighLevel não autorizou
    .more = Nada mudou. As palavras do HighLevel:
page-no-code = Não há código neste endereço
    .more = Comece de novo com outro link.
page-other-browser = Este não é o navegador em que começou
    .more = Comece de novo com outro link e fique no mesmo navegador. Nada foi gasto.
page-expired = Tarde demais, ou já usado
    .more = Uma autorização precisa terminar em dez minutos, uma vez só. Se não deu certo da primeira vez, comece de novo.
page-code-used = O HighLevel não aceita este código
    .more = Um código funciona uma vez e por pouco tempo. Comece de novo.
page-install = Uma instalação do marketplace
    .more = Continue para entregar esta instalação ao serviço. Talvez o responsável precise aprová-la antes.
page-no-installs = Este serviço não aceita instalações que chegam sozinhas
    .more = Peça ao responsável um link para autorizar.
page-crowded = Instalações demais de uma vez
    .more = Muitas instalações vieram ao mesmo tempo. Nada foi gasto: volte e aperte o botão de novo em um minuto.
page-thanks = Conectado
    .more = Você já pode fechar esta página. O serviço cuida da conexão a partir de agora.
page-parked = Esperando aprovação
    .more = O responsável por este serviço foi avisado e vai aprovar ou recusar. Você já pode fechar esta página.
page-unavailable = Não deu certo
    .more = O serviço não consegue trabalhar no momento. Tente de novo em breve; o responsável encontra o motivo no log.

## Alarms and maintenance

var-GHL_HEALTH_CHECK_FAILURE_TAG_NAME = uma segunda tag, para problemas enquanto o HighLevel ainda responde
var-GHL_ALERT_AFTER = falhas seguidas antes de avisar alguém
var-GHL_ALERT_REMIND_HOURS = horas entre dois lembretes
var-GHL_NOTIFY_WEBHOOK_URL = para onde os avisos são enviados em JSON
var-GHL_NOTIFY_WEBHOOK_SECRET = com o que esses envios são assinados: whsec_ e base64
var-GHL_NOTIFY_SLACK_URL = um webhook de entrada do Slack
var-GHL_NOTIFY_DISCORD_URL = um webhook do Discord
var-GHL_NOTIFY_TELEGRAM_URL = o sendMessage do Telegram, com o token do bot e o chat_id
var-GHL_NOTIFY_SMTP_URL = o servidor de e-mail para os avisos, com TLS (smtps://) ou STARTTLS (smtp://)
var-GHL_NOTIFY_EMAIL_TO = quem recebe avisos por e-mail, separados por vírgulas
var-GHL_NOTIFY_EMAIL_FROM = de quem são esses e-mails; sem ela, do usuário do servidor de e-mail
var-GHL_NOTIFY_ALLOW_PRIVATE = se os avisos podem ir para endereços de uma rede privada
var-GHL_HEARTBEAT_URL = um "interruptor do homem morto" na gramática do healthchecks.io
help-maintenance = Períodos em que ninguém é avisado de problemas.
help-maintenance-start = Começa um agora.
help-maintenance-list = Mostra os que não terminaram.
help-maintenance-end = Termina um antes da hora.
help-notify = Experimenta cada caminho pelo qual as pessoas são avisadas.
arg-lasting = Por quanto tempo: 2h, 30m, 1d. Sem isso, uma instalação fica em pausa até você terminar.
arg-reason = Por quê, para quem olhar.
arg-maintenance = A manutenção, como a lista a chama.
arg-test = Envia um aviso de teste por cada caminho configurado.
notify-arrived = { $way }: aceito
notify-did-not-arrive = { $way }: { $why }
bad-number = "{ $value }" não é um número de { $least } a { $most }
bad-truth = "{ $value }" não é true nem false
bad-notify-url = este endereço não pode ser usado: { $why }
error-notify_failed = { $count ->
    [1] Um dos caminhos de aviso não funciona.
   *[other] { $count } dos caminhos de aviso não funcionam.
    }
    .action = Veja as linhas acima, corrija as variáveis indicadas e tente de novo.
error-no_ways = Não há como avisar ninguém: nenhum caminho está configurado.
    .action = Defina uma destas: GHL_NOTIFY_WEBHOOK_URL, GHL_NOTIFY_SLACK_URL, GHL_NOTIFY_DISCORD_URL, GHL_NOTIFY_TELEGRAM_URL, GHL_NOTIFY_SMTP_URL ou GHL_HEARTBEAT_URL.
api-no_maintenance = Não há manutenção assim em curso.
    .action = Veja /v1/maintenances.
maintenance-started = Ninguém é avisado de problemas até { $until }. Para terminar antes: ghl-auth maintenance end { $id }
maintenance-paused = { $whose } está em pausa: não é verificada, e ninguém é avisado de problemas; o token continua sendo renovado. Para retomar: ghl-auth maintenance end { $id }
maintenance-until-ended = até ser terminada
error-maintenance_endless = Uma manutenção de tudo precisa de um fim.
    .action = Diga por quanto tempo com --for 2h, ou qual instalação deve ficar em pausa com --location ID.
maintenance-ended = A manutenção { $id } terminou.
maintenance-none = Nenhuma manutenção está planejada.
error-maintenance_unknown = Nenhuma manutenção em curso se chama { $id }.
    .action = Veja com: ghl-auth maintenance list.
subject-service = o próprio serviço
head-maintenance = Manutenção
head-from = De
head-until = Até
head-reason = Motivo
bad-notify-secret = isto não é whsec_ e base64 de 24 a 64 bytes
bad-email-half = GHL_NOTIFY_SMTP_URL e GHL_NOTIFY_EMAIL_TO andam juntas, e uma delas falta
bad-smtp-url = isto não é smtps://USUARIO:SENHA@HOST:PORTA nem smtp://…
bad-email = "{ $value }" não é um endereço de e-mail
bad-email-no-sender = o usuário em GHL_NOTIFY_SMTP_URL não é um endereço de e-mail, então é esta que diz de quem são os e-mails
bad-failure-tag = isto precisa de GHL_HEALTH_CHECK_CONTACT_ID, o contato que a recebe
notice-trouble = { $name }: { $whose } está { $health }
notice-recovered = { $name }: { $whose } voltou a funcionar
notice-reminder = { $name }: { $whose } continua { $health }
notice-flapping = { $name }: { $whose } vai e volta, agora { $health }
notice-parked = { $name }: uma instalação espera aprovação ({ $whose })
notice-uninstalled = { $name }: { $whose } desinstalou o aplicativo
notice-anomaly = { $name }: uma chave de API é usada como nunca antes
notice-quota = { $name }: as chamadas do dia vão acabar ({ $whose })
key-many-reads = { $count ->
    [1] A chave { $key } pegou os tokens de uma instalação que nunca tinha lido.
   *[other] A chave { $key } pegou os tokens de { $count } instalações que nunca tinha lido.
  }
key-new-source = A chave { $key } veio de { $source } pela primeira vez.
key-anomaly =
    .action = Se não foi você, revogue-a: ghl-auth keys revoke.
daily-quota = Chamadas que restam das { $limit } do dia: { $remaining }. No ritmo atual, duram até { $at }.
    .action = Envie menos, ou peça mais ao HighLevel.
notice-test = { $name }: este é um teste. Estado, { $whose }: { $health }
notice-checks-late = { $name }: verificações atrasadas ({ $whose })
notice-checks-recovered = { $name }: as verificações voltaram a ser feitas a tempo ({ $whose })
notice-checks-reminder = { $name }: as verificações continuam atrasadas ({ $whose })
notice-checks-flapping = { $name }: as verificações atrasam repetidamente ({ $whose })
subject-all = todas as instalações
uninstalled = Está fora de serviço. Os tokens ficam guardados, selados, por 30 dias; se foi engano: ghl-auth installs restore --{ $kind } { $id }
uninstalled-with-locations = { $count ->
    [1] Uma instalação está fora de serviço. Os tokens ficam guardados, selados, por 30 dias; se foi engano: ghl-auth installs removed
   *[other] Com as locations dela, { $count } instalações estão fora de serviço. Os tokens ficam guardados, selados, por 30 dias; se foi engano: ghl-auth installs removed
  }
late-checks = Nenhuma verificação desde { $last }; a seguinte era esperada em { $due }.
    .action = Veja se o serviço esteve parado e, no log, o que o segura.
checks-again = As verificações voltaram a ser feitas.
notice-since = Desde { $at }.

## The dashboard

help-dashboard = Um link que faz você entrar no painel, uma vez.
dashboard-link = Abra isto em até 15 minutos, num navegador desta máquina:
error-dashboard_no_port = O serviço escuta num arquivo de socket ou em qualquer porta livre, onde nenhum navegador o encontra.
    .action = Ponha em GHL_AUTH_LISTEN um endereço com porta, como 127.0.0.1:8787, e reinicie o serviço.
demo-dashboard = O painel está aqui; o link faz você entrar uma vez:
dash-skip = Ir para a página
dash-nav = Páginas
dash-overview = Visão geral
dash-installations = Instalações
dash-notices = Avisos
dash-keys = Chaves de API
dash-connect = Conectar uma location
dash-sign-out = Sair
dash-sign-in = Entrar
dash-sign-in-how = Na máquina onde isto roda, peça um link que faz você entrar uma vez:
dash-sign-in-or-key = Ou entre com uma chave de API do verbo admin:
dash-admin-key = Chave de API
dash-sign-in-by-link = Este link faz você entrar uma vez.
dash-sign-in-wrong = Essa chave não existe. Veja se ela foi copiada inteira; `ghl-auth keys create --all --verb admin --name voce` cria outra.
dash-sign-in-not-admin = Essa chave não pode tudo. Para entrar é preciso uma criada com `ghl-auth keys create --all --verb admin --name voce`.
dash-sign-in-too-many = Vieram chaves erradas demais daí. Espere um minuto e tente de novo; `ghl-auth dashboard` mostra um link na hora.
dash-sign-in-link-used = Este link já foi usado ou tem mais de 15 minutos. `ghl-auth dashboard` mostra outro.
dash-sign-in-elsewhere = Esse formulário não veio desta página. Entre por aqui.
dash-in = em { $span }
dash-location = Location
dash-company = Agência
dash-stand-connected = Conectada
dash-stand-uncertain = Incerta
dash-stand-suspended = Suspensa
dash-stand-broken = Falta autorizar
dash-verdict-empty = Nada está conectado ainda
dash-verdict-good = Tudo funciona
dash-verdict-trouble = { $count ->
    [one] Uma coisa precisa de você
   *[other] { $count } coisas precisam de você
}
dash-needs = O que precisa de você agora
dash-waits = { $id } foi instalada e espera a sua aprovação
dash-approve = Servir
dash-dismiss = Recusar
dash-dismiss-really = Recusar { $id }? A autorização é descartada, e quem a instalou terá de instalar de novo.
dash-the-service = O serviço
dash-the-checks = As verificações
dash-count-locations = Locations
dash-count-companies = Agências
dash-budget-now = Chamadas restantes agora
dash-budget-day = Chamadas restantes hoje
dash-budget-spent = As chamadas de hoje acabam em
dash-none-yet = Nenhuma location está conectada.
dash-all-installations = Todas as instalações
dash-last-checks = Últimas verificações
dash-no-checks = Nada foi verificado ainda.
dash-no-notices = Não houve nada a avisar.
dash-search = Nome ou id
dash-stand = Conexão
dash-any = qualquer
dash-order = Ordem
dash-order-id = Por id
dash-order-expires-at = Token que acaba antes
dash-order-checked-at = Verificada há mais tempo
dash-show = Mostrar
dash-nothing-found = Nada corresponde a isso.
dash-first-page = Primeira página
dash-next-page = Próxima página
dash-unlisted = A lista de locations instaladas do HighLevel não a traz desde
dash-check-now = Verificar agora
dash-refresh = Renovar o token
dash-connect-again = Conectar de novo
dash-forget = Esquecer
dash-expires = O token acaba
dash-issued = O token chegou
dash-connected = Conectada desde
dash-missing = Escopos que faltam: conecte de novo para concedê-los
dash-chart = { $share } verificações operacionais
dash-chart-longest = a mais longa levou { $milliseconds } ms
dash-scopes = Escopos
dash-done-checked = Foi verificada.
dash-done-refreshed = Tem um token novo.
dash-done-restored = Voltou a ser servida.
dash-paused = Em pausa
dash-pause = Pausar
dash-pause-means = Em pausa: não é verificada, e ninguém é avisado de problemas; o token continua sendo renovado.
dash-resume = Retomar
dash-done-paused = Está em pausa.
dash-done-resumed = Voltou a ser verificada.
dash-done-approved = É servida a partir de agora.
dash-settings = Configurações
dash-settings-how = São definidas onde o serviço é iniciado, no ambiente ou no arquivo .env, e lidas ao iniciar. Segredos não são mostrados.
dash-setting = Configuração
dash-value = Valor
dash-secret-set = definido, e não mostrado
dash-sessions = Sessões
dash-sessions-how = Quem estiver conectado a este painel, em qualquer máquina, sai:
dash-sign-out-everywhere = Sair em todos os lugares
dash-problem = Isto não funciona
dash-to-overview = Para a visão geral
dash-history = Histórico
dash-turn-authorized = Autorizada por uma pessoa
dash-turn-refreshed = Um token novo
dash-generation = conjunto { $generation }
dash-lives-until = vale até { $at }
dash-removed = Esquecida
dash-removed-more = Os tokens dela ficam guardados, selados, por 30 dias depois disso.
dash-restore = Servir de novo
dash-unknown = Não há tal instalação aqui.
dash-forget-title = Esquecer { $id }?
dash-forget-more = Ninguém mais recebe o token dela, e ela não é mais verificada. Os tokens ficam selados por 30 dias, nos quais você pode desfazer isto.
dash-back = Voltar
dash-keys-how = As chaves são criadas no terminal, que mostra cada uma uma única vez:
dash-key-name = Nome
dash-key-verbs = Pode
dash-key-reach = Alcança
dash-key-used = Usada
dash-key-ends = Acaba
dash-key-revoked = Revogada
dash-key-revoke = Revogar
dash-key-really = Revogar a chave { $name }? O que a usa passa a ser recusado.
dash-reach-all = tudo
dash-way-arrived = chegou { $at }
dash-way-waits = a caminho
dash-notice-trouble = Problema
dash-notice-recovered = Voltou a funcionar
dash-notice-reminder = Problema continua
dash-notice-flapping = Vai e volta
dash-notice-parked = Espera aprovação
dash-notice-uninstalled = Desinstalada
dash-notice-late = Verificações atrasadas
dash-notice-anomaly = Uso incomum de uma chave
dash-notice-quota = As chamadas do dia acabam
dash-notice-test = Teste
dash-connect-1 = O botão leva ao HighLevel ({ $host }). Entre lá como alguém que pode instalar apps: um admin da agência ou da subconta.
dash-connect-2 = Escolha a subconta e permita o que for pedido.
dash-connect-3 = O HighLevel traz você de volta para cá, e a location é mantida viva a partir daí.
dash-connect-scopes = O HighLevel vai pedir:
dash-connect-go = Ir para o HighLevel
dash-connect-none = Este serviço usa um Private Integration Token. Não há nada a conectar; o token é criado no HighLevel em Settings, Private Integrations.

api-not_from_here = Um formulário que não veio de uma página deste painel não foi executado.
    .action = Abra o painel de novo, entre se ele pedir, e use o botão de lá.

## doctor: o que está errado e o que resolve
help-doctor = Descobre o que está errado e diz o que resolve. Só mexe na tag da verificação de saúde.
arg-doctor-notify = Envia um aviso por cada caminho, em vez de só ver se ele leva a algum lugar.
arg-doctor-report = Grava também o resultado neste arquivo, sem segredos, para enviar a alguém.
doctor-level-ok = ok
doctor-level-warning = atenção
doctor-level-failure = falha
doctor-area-configuration = configuração
doctor-area-files = arquivos
doctor-area-key = chave
doctor-area-store = armazenamento
doctor-area-network = rede
doctor-area-clock = relógio
doctor-area-grant = autorização
doctor-area-reading = leitura
doctor-area-tag = tag
doctor-area-workflow = workflow
doctor-area-schedule = agendamento
doctor-area-cron = entrada do cron
doctor-area-ports = portas
doctor-area-notices = avisos
doctor-not-examined = Não examinado, pois ainda não há o que olhar: { $list }.
doctor-all-good = Não há nada errado.
doctor-summary = Falhas: { $failures }. Pontos de atenção: { $warnings }.
doctor-reported = Gravado em { $path }, sem segredos; só você pode ler.
doctor-configuration = Uma configuração está errada.
    .action = Corrija { $name } no .env, ou onde quer que esteja definida.
doctor-configuration_good = tudo o que está definido pode ser lido.
doctor-env_lines = Há linhas em { $path } que não são configurações e são ignoradas: { $lines }.
    .action = Escreva cada uma como NOME=valor em uma só linha, ou comece com # se for comentário.
doctor-cleaned = Estas vieram com aspas ou comentários no valor, que foram retirados: { $names }.
    .action = Onde o contêiner recebe o ambiente (--env-file, compose), escreva os valores sem aspas nem comentários.
doctor-placeholder = Estas ainda têm o texto do exemplo: { $names }.
    .action = Coloque os valores do seu app. No HighLevel: marketplace.gohighlevel.com, My Apps, seu app, Advanced Settings, Auth.
doctor-client_id_shape = GHL_CLIENT_ID não parece um dos do HighLevel: 24 dígitos de 0 a f, um hífen e mais alguns caracteres.
    .action = Copie o client ID inteiro: marketplace.gohighlevel.com, My Apps, seu app, Advanced Settings, Auth, Client Keys. Só a parte antes do hífen é o ID do app.
doctor-location_unnamed = A verificação agendada precisa de GHL_LOCATION_ID, que não está definida.
    .action = Defina-a com o ID da sub-conta. No HighLevel: Settings, Business Profile; `ghl-auth status` também o mostra.
doctor-files_good = configuração e tokens são só do dono.
doctor-env_mode = Outros nesta máquina podem ler { $path } (modo { $mode }), e o segredo do app está ali.
    .action = Execute: chmod 600 { $path }
doctor-env_owner = { $path } pertence ao usuário { $owner }, e este é o usuário { $me }: quem é o dono decide o que este programa faz.
    .action = Execute como root: chown { $me } { $path }
doctor-store_mode = Outros nesta máquina podem ler { $path } (modo { $mode }), onde ficam os tokens.
    .action = Execute: chmod 600 { $path }
doctor-store_owner = { $path } pertence ao usuário { $owner }, e este é o usuário { $me }: tokens novos não poderiam ser salvos ali.
    .action = Execute como root: chown { $me } { $path }. Ou execute tudo, inclusive o cron, como o usuário { $owner }.
doctor-folder_open = Outros podem colocar arquivos deles em { $path } (modo { $mode }), e assim no lugar da configuração ou dos tokens.
    .action = Execute: chmod go-w { $path }
doctor-key_good = ela abre o armazenamento.
doctor-key_none = GHL_AUTH_KEY não está definida: o arquivo de tokens não é lacrado, e só o modo do arquivo o protege.
doctor-old_keys_alone = GHL_AUTH_OLD_KEYS está definida sem GHL_AUTH_KEY: nada novo é lacrado.
    .action = Defina GHL_AUTH_KEY com uma chave nova: openssl rand -base64 32
doctor-old_keys_idle = Nada mais está lacrado com as chaves de GHL_AUTH_OLD_KEYS.
    .action = Tire GHL_AUTH_OLD_KEYS da configuração. Guarde as chaves enquanto guardar backups lacrados com elas.
doctor-old_keys_needed = Registros ainda lacrados com uma chave de GHL_AUTH_OLD_KEYS: { $count }.
    .action = Execute `ghl-auth rotate-key` e só depois tire as chaves antigas.
doctor-store_good = { $place } abre e pode ser gravado.
doctor-store_missing = Ainda não há nada em { $place }: ninguém autorizou o app a partir daqui.
    .action = Execute `ghl-auth login`. Se você tem tokens em outro lugar: veja GHL_STORE e a pasta em que executa isto, ou use `ghl-auth import`.
doctor-disk_full = Só há { $free } MiB livres onde está { $place }. Sem espaço para a resposta, nenhum token é renovado.
    .action = Libere espaço agora: df -h mostra qual disco está cheio, du -xh / | sort -h o que o enche.
doctor-disk_low = Só há { $free } MiB livres onde está { $place }.
    .action = Libere espaço antes que encha: df -h mostra qual é o disco.
doctor-standby = { $place } está em espera, e nada é renovado a partir dele: { $why }.
    .action = Use o armazenamento que assumiu (GHL_STORE) ou, se é este que deve cuidar das autorizações, e nenhum outro cuida: `ghl-auth restore --take-over`.
doctor-landings = Respostas do HighLevel que estão salvas, mas ainda não no armazenamento: { $count }.
    .action = Execute `ghl-auth check`, que as coloca lá. Se elas ficarem, a mensagem dele diz por quê.
doctor-in_place = { $place } não pode ser substituído por outro arquivo; por isso é regravado no lugar, o que promete menos em uma queda de energia.
    .action = Monte a pasta que o contém em vez de só o arquivo, e deixe o programa gravar nessa pasta.
doctor-network_good = { $host } responde.
doctor-dns = O nome em { $host } não é encontrado: { $why }
    .action = Veja se GHL_API_BASE_URL está escrita certo e se esta máquina encontra nomes: getent hosts services.leadconnectorhq.com. Se não, conserte /etc/resolv.conf ou a rede.
doctor-no_sandbox = Ninguém escuta em { $host }, um endereço desta máquina: { $why }
    .action = Inicie o sandbox de novo (`ghl-auth sandbox`) ou, para o HighLevel de verdade, tire GHL_API_BASE_URL da configuração.
doctor-no_connection = Sem conexão com { $host }: { $why }
    .action = Permita no firewall conexões de saída para a porta 443. Teste: curl -v https://services.leadconnectorhq.com
doctor-tls = { $host } não prova ser quem deveria ser: { $why }
    .action = Se um proxy abre o TLS aqui, indique o certificado da autoridade dele em SSL_CERT_FILE. Se o endereço é seu, veja se ele fala HTTPS.
doctor-tls_time = O certificado de { $host } não vale neste momento: { $why }
    .action = Veja se o relógio desta máquina está certo: date -u. Se não, execute: timedatectl set-ntp true
doctor-silent = { $host } aceita conexões e não responde: { $why }
    .action = Tente de novo em alguns minutos. Se continuar, veja o que há no caminho: um proxy, um firewall, outro programa neste endereço.
doctor-highlevel_down = { $host } responde com um erro próprio ({ $status }).
    .action = Espere; os tokens em mãos continuam funcionando. O HighLevel diz ali como está.
doctor-clock_good = concorda com o do HighLevel.
doctor-clock_unknown = o HighLevel não disse que horas são para ele.
doctor-clock_ahead = O relógio desta máquina está { $off } adiantado em relação ao do HighLevel; os tokens parecem terminar antes da hora.
    .action = Deixe que a rede o acerte: timedatectl set-ntp true (ou instale o chrony).
doctor-clock_behind = O relógio desta máquina está { $off } atrasado em relação ao do HighLevel; tokens mortos parecem vivos.
    .action = Deixe que a rede o acerte: timedatectl set-ntp true (ou instale o chrony).
doctor-grant_good = o token vive por mais { $left } (geração { $generation }).
doctor-another_program = O HighLevel recusa o refresh token desde { $since }, só { $age } depois de emiti-lo. Sem uso, ele vive um ano: outro programa renovou esta autorização, ou o app foi desinstalado.
    .action = Pare o que mais usa esta autorização: o antigo script Python em um crontab, uma cópia desta pasta, um segundo servidor. Depois autorize de novo: `ghl-auth login`.
doctor-written_elsewhere = O arquivo de tokens foi gravado por último por outro programa, provavelmente o template Python.
    .action = Tire esse script de todo crontab e contêiner: dois que renovam a mesma autorização a perdem. Depois execute `ghl-auth check`, que assume o arquivo.
doctor-flight_left = Uma renovação começou em { $since }, e quem a começou não existe mais.
    .action = Execute `ghl-auth check` agora: ele continua com o mesmo token, enquanto o HighLevel ainda o aceitar.
doctor-claims_class = O token é da classe { $says }, e a configuração pede { $class }.
    .action = Defina GHL_USER_TYPE com a classe da autorização, ou autorize de novo como a outra: `ghl-auth login`. Uma agência escolhe a sub-conta na página do HighLevel.
doctor-claims_id = O token é de { $says }, e é para { $id } que ele está guardado.
    .action = Corrija GHL_LOCATION_ID, ou autorize de novo e escolha a sub-conta certa: `ghl-auth login`.
doctor-claims_app = O token é do app { $says }, e GHL_CLIENT_ID é do app { $app }: o HighLevel vai recusar a renovação.
    .action = Defina GHL_CLIENT_ID e GHL_CLIENT_SECRET com os do app que foi autorizado, ou autorize este: `ghl-auth login`.
doctor-claims_end = O token diz que termina em { $says }, e para ele está anotado { $noted }.
    .action = Veja se o relógio desta máquina está certo (date -u) e execute `ghl-auth refresh`.
doctor-token_ended = O token terminou em { $at }, e nada o renovou desde então.
    .action = Execute `ghl-auth check`, que o renova; depois veja abaixo por que nada o fez.
doctor-scopes_needed = Faltam à autorização escopos de que a verificação de saúde precisa: { $scopes }.
    .action = Marque-os no app: marketplace.gohighlevel.com, My Apps, seu app, Advanced Settings, Auth, Scopes. Depois autorize de novo.
doctor-scopes_wanted = Faltam à autorização escopos de GHL_SCOPES: { $scopes }.
    .action = Autorize de novo, pois o HighLevel só dá escopos novos a uma pessoa: `ghl-auth login`.
doctor-crowd_good = todas as { $all } funcionam, até onde se sabe.
doctor-crowd_troubled = Nem todas funcionam: { $troubled } de { $all }.
    .action = `ghl-auth status` diz de cada uma o que está errado e o que fazer.
doctor-reading_good = o HighLevel aceita o token de { $id }.
doctor-tag_none = não há contato e tag configurados; nenhuma foi adicionada.
doctor-tag_good = { $tag } foi adicionada ao contato { $contact } e está lá.
doctor-tag_not_seen = O HighLevel aceitou a tag { $tag } para o contato { $contact }, e um instante depois ela não está lá.
    .action = Se um workflow a remove na hora, está tudo bem: `ghl-auth check --wait-for-workflow 60s` prova isso. Se não, veja se o contato foi mesclado com outro.
doctor-workflow_unseen = daqui ninguém o vê rodar; `ghl-auth check --wait-for-workflow 60s` prova que ele roda.
doctor-tag_left = A tag { $tag } ainda estava no contato { $contact }: o workflow não rodou, ou não a remove.
    .action = Se uma verificação rodou há menos de um minuto, espere antes o workflow. Se não, no HighLevel: Automation, Workflows. Veja se o que tem o gatilho "Contact Tag" está publicado, usa esta tag, permite reentrada e termina com "Remove Contact Tag".
doctor-schedule_good = a verificação roda sozinha.
doctor-schedule_none = Nada roda a verificação sozinho; o token termina em um dia. Ela deveria rodar a cada { $hours } h.
    .action = Execute `ghl-auth schedule install` para uma entrada do cron, ou `ghl-auth schedule install --service` para o serviço; ou mantenha `ghl-auth serve` no ar do seu jeito.
doctor-schedule_twice = Tanto o cron quanto um timer do systemd rodam a verificação.
    .action = Fique com um deles: `ghl-auth schedule remove` ou `ghl-auth schedule remove --systemd`.
doctor-schedule_differs = A entrada do cron não roda a cada { $hours } h, como diz RUN_INTERVAL_HOURS.
    .action = Execute `ghl-auth schedule install` de novo.
doctor-timer_stopped = O timer do systemd está escrito e não roda.
    .action = Execute `ghl-auth schedule install --systemd`. Depois veja com: systemctl list-timers (como usuário: systemctl --user list-timers).
doctor-schedule_late = A última verificação foi em { $at }, e uma deve rodar a cada { $hours } h: o que deveria rodá-la não roda.
    .action = Veja se o cron roda (systemctl status cron) e o que ele disse: ghl_auth_check.log ao lado do .env ou em /var/log. Depois `ghl-auth check`.
doctor-schedule_never = Desde o login em { $at } nenhuma verificação rodou, e uma deve rodar a cada { $hours } h.
    .action = Veja se o cron roda (systemctl status cron) e o que ele disse: ghl_auth_check.log ao lado do .env ou em /var/log. Depois `ghl-auth check`.
doctor-schedule_others = Há linhas do crontab que parecem renovar a mesma autorização: { $lines }.
    .action = Tire-as com crontab -e: dois programas que renovam a mesma autorização a perdem.
doctor-check_failed = A última verificação, em { $at }, não ficou satisfeita ({ $code }): { $said }
    .action = Execute `ghl-auth check`, que diz o que fazer.
doctor-cron_good = o que ela nomeia está lá e pode ser usado.
doctor-cron_program = A entrada do cron roda { $path }, que não está lá ou não pode ser executado.
    .action = Execute `ghl-auth schedule install` com o programa que deve ser executado.
doctor-cron_env = A entrada do cron lê { $path }, que este usuário não consegue ler.
    .action = Coloque o arquivo de volta, ou execute `ghl-auth schedule install` na pasta com o .env certo.
doctor-cron_log = A entrada do cron grava em { $path }, onde este usuário não pode gravar; o shell então nem começa a verificação.
    .action = Execute como root: touch { $path } && chown USUÁRIO { $path }. Ou execute `ghl-auth schedule install` de novo, que escolhe um lugar onde dá para gravar.
doctor-ports_free = livres; nenhum serviço está rodando aqui.
doctor-service_lives = o serviço está vivo.
doctor-port_taken = Outro programa ocupa { $address }, onde o serviço escutaria ({ $name }).
    .action = Veja qual: ss -ltnp. Encerre-o, ou dê outra porta a { $name }.
doctor-port_not_allowed = Este usuário não pode escutar em { $address } ({ $name }).
    .action = Dê a { $name } uma porta acima de 1023, com um proxy na frente.
doctor-port_not_here = { $address } não é um endereço desta máquina ({ $name }).
    .action = Defina { $name } com um endereço que `ip addr` mostra, ou com 127.0.0.1 e a porta.
doctor-notices_by_tag = a tag avisa as pessoas, pelo workflow dela.
doctor-notices_none = Ninguém é avisado quando algo quebra: não há contato com tag nem outro caminho.
    .action = Defina GHL_NOTIFY_EMAIL_TO e GHL_NOTIFY_SMTP_URL, ou outra das variáveis GHL_NOTIFY_, ou GHL_HEALTH_CHECK_CONTACT_ID e GHL_HEALTH_CHECK_TAG_NAME.
doctor-notices_reached = alguém escuta em: { $ways }.
doctor-notices_sent = um aviso foi aceito por: { $ways }.
doctor-notice_lost = Os avisos por { $way } não chegam: { $why }.
    .action = Confira o endereço e a senha nas variáveis GHL_NOTIFY_ (GHL_HEARTBEAT_URL para o heartbeat) e se o firewall deixa passar. Depois: `ghl-auth notify --test`
error-report_not_written = Não foi possível gravar o relatório em { $path }: { $why }
    .action = Indique um arquivo que ainda não existe, em uma pasta onde você pode gravar.

## Configuração por perguntas

help-init = Configura tudo, por perguntas.
    .more = Pergunta o que é preciso, diz onde fica no HighLevel e grava cada resposta no .env na hora: interrompido, continua de onde parou. Cada resposta também tem uma opção; com todas elas, ou com --yes, nada é perguntado.
arg-lang = O idioma: en ou pt-BR.
arg-client_id = O client id do aplicativo do Marketplace.
arg-client_secret_file = O arquivo com o client secret do aplicativo.
arg-redirect_uri = O endereço de redirecionamento cadastrado no aplicativo.
arg-init_location = A localização (subconta).
arg-store = Onde os tokens ficam: file:CAMINHO, sqlite:CAMINHO ou postgres://…
arg-service_name = O nome com que este serviço fala.
arg-contact = O contato da verificação, pelo ID ou pelo endereço da página dele.
arg-contact_email = O mesmo, pelo e-mail; se não existir, é criado.
arg-no_contact = Sem contato: a verificação só lê.
arg-tag = A tag da verificação.
arg-schedule = O que repete a verificação: cron, systemd (um timer), service (o `serve`, mantido pelo systemd) ou none.
arg-every = Horas entre duas verificações.
arg-init_yes = Não pergunta nada: o que não tem opção fica como está no .env.
init-welcome = Cada resposta é salva na hora. Se você parar, rode `ghl-auth init` de novo: ele continua de onde você estava.
init-choose = ↑ e ↓ escolhem, Enter confirma
init-keeps = Enter mantém o que já está lá
init-yes = Sim
init-no = Não
init-yes-by-default = S/n
init-yes-or-no = Responda s (sim) ou n (não).
init-language = Language / Idioma
    .where = In which language shall the program speak? / Em que idioma o programa deve falar?
init-client-id = Client id
    .where =
        Em marketplace.gohighlevel.com, abra o seu aplicativo e vá em Manage > Secrets > Client Keys: o client id está lá.
        No aplicativo, marque estes escopos: contacts.readonly, contacts.write, locations.readonly, locations/tags.readonly, locations/tags.write e locations/customFields.readonly.
init-client-secret = Client secret
    .where =
        Fica ao lado do client id, e o HighLevel só o mostra uma vez, ao criá-lo: Manage > Secrets > Client Keys.
        Se você não o tem mais, crie outra client key ali, aperte Ctrl-C aqui e rode `ghl-auth init` de novo com o novo client id.
init-redirect-uri = Endereço de redirecionamento
    .where =
        Um dos endereços de redirecionamento do aplicativo, letra por letra como está lá. Aplicativos novos só aceitam https; qualquer página serve, como o seu próprio site:
        depois que você autoriza, o código aparece no endereço dessa página, e você o cola aqui.
init-location = Location ID
    .where =
        Na subconta: Settings > Company Profile > Location ID.
        É a subconta a que os tokens dão acesso; são 20 letras e números.
init-store = Onde os tokens ficam
    .where =
        sqlite:CAMINHO é um banco de dados lacrado, a escolha de costume. file:CAMINHO é o ghl_tokens.json do modelo em Python.
        postgres://USUARIO:SENHA@SERVIDOR/BANCO?sslmode=verify-full é para várias máquinas.
init-name = Nome deste serviço
    .where =
        Aparece nos avisos, para você saber qual dos seus serviços está falando.
        Qualquer nome serve.
init-contact = Contato da verificação
    .where =
        Um e-mail: o contato que o tem é encontrado, ou criado. Ou o ID de um contato, que está no endereço da página dele no HighLevel, ou esse endereço inteiro.
        O seu próprio é uma boa escolha: ele recebe a mensagem de que está tudo bem. Um hífen (-) é para nenhum; aí a verificação só lê, e nenhuma mensagem chega.
init-tag = Tag da verificação
    .where =
        Cada verificação adiciona esta tag ao contato. Um workflow no HighLevel a percebe, manda a mensagem para você e remove a tag.
        Escolha um nome que nenhum outro workflow espera.
init-schedule = O que deve repetir a verificação?
    .where =
        Uma verificação mantém os tokens novos e avisa você de que a conexão está viva. Ela precisa ser feita de novo e de novo.
        Para isso basta uma linha do cron ou um timer. O serviço fica sempre no ar: faz as verificações sozinho e tem o dashboard, a API e o gateway para os seus programas, só nesta máquina.
init-schedule-cron = cron: uma linha no seu crontab
init-schedule-systemd = systemd: um timer
init-schedule-service = o serviço, sempre no ar, mantido pelo systemd: verificações, dashboard e API
init-schedule-none = nada por enquanto
init-every = Horas entre duas verificações
    .where =
        12 é bom: os tokens vivem 24 horas, e são renovados a tempo.
        O cron aceita 1, 2, 3, 4, 6, 8, 12 e 24.
init-bad-client-id = Um client id são 24 números e letras entre a e f, um hífen e mais algumas letras e números: 0123456789abcdef01234567-abcd1234. Copie-o inteiro.
init-bad-client-secret = Isto não é um client secret: ele se parece com 00000000-0000-4000-8000-000000000000. Copie-o inteiro, sem espaços.
init-secret-is-id = Este é o client id. O secret fica ao lado dele e só é mostrado ao ser criado.
init-secret-is-private = Este é um Private Integration Token, não o secret de um aplicativo. Ele não precisa do `init`: ponha-o no .env como GHL_PRIVATE_TOKEN.
init-bad-redirect = Isto não é o endereço de uma página. Ele começa com https:// e traz um site seu, por exemplo https://seusite.com.br/oauth/callback.
init-redirect-clear-text = Um código não pode viajar sem criptografia: o endereço precisa começar com https://. Só um endereço desta máquina (127.0.0.1) pode começar com http://.
init-redirect-refused = Em aplicativos novos, o HighLevel recusa endereços de redirecionamento que contêm "ghl" ou "highlevel". Se recusar, cadastre outro e rode `ghl-auth init` de novo.
init-bad-location = O ID de uma localização são 20 letras e números, como AbCdEfGhIjKlMnOpQrSt. Não é o nome da subconta.
init-bad-contact = Isto não é um e-mail, nem um ID (20 letras e números, como AbCdEfGhIjKlMnOpQrSt), nem o endereço da página de um contato.
init-bad-email = Isto não é um e-mail: ele se parece com nome@exemplo.com.br.
init-bad-name = Um nome tem de 1 a 100 caracteres.
init-bad-cron = O cron só aceita 1, 2, 3, 4, 6, 8, 12 e 24 horas; o systemd aceita qualquer número.
init-overruled = { $name } também está no ambiente deste processo, e o que está lá vale mais que o .env. Tire-o de lá, ou faça os dois dizerem o mesmo.
init-key = Uma chave que lacra os tokens foi criada e está em { $path } como GHL_AUTH_KEY. Guarde uma cópia em lugar seguro: sem ela, ninguém consegue abrir os tokens.
init-import = Já há tokens em { $path }. Para levá-los em vez de autorizar de novo, aperte Ctrl-C, rode `ghl-auth import { $path }` e depois `ghl-auth init` de novo.
init-login = Agora o HighLevel pergunta a você se o aplicativo pode ter acesso.
init-login-again = Não deu certo. Tentar de novo?
init-connected = Conectado: { $name }
init-another = Os tokens que estão aqui são da localização { $found }, e você informou { $wanted }.
init-take-other = Usar { $found } (Não: autorizar de novo, para { $wanted })?
init-contact-found = { $email } é o contato { $id }.
init-contact-make = Nenhum contato tem o e-mail { $email }. Criar um?
init-contact-made = Criado: o contato { $id }, com o e-mail { $email }.
init-contact-other = Então informe outro contato.
init-contact-unknown = O HighLevel não conhece esse contato nesta localização. Copie o ID do endereço da página do contato, ou informe o e-mail dele.
init-contact-elsewhere = Esse contato é de outra localização. Escolha um da localização que você informou.
init-refused = O HighLevel não fez isso: { $said }
init-scope = O aplicativo não pode fazer isso: falta o escopo { $scope }. Marque-o no aplicativo, autorize de novo com `ghl-auth login` e rode `ghl-auth init` de novo; ou informe o ID de um contato.
init-scope-lacks = falta ao aplicativo o escopo { $scope }
init-read-only = Sem contato, a verificação só lê, e ninguém recebe mensagem de um workflow.
init-tag-there = A tag { $tag } já existe.
init-tag-made = A tag { $tag } foi criada.
init-tag-by-hand = Se a tag { $tag } ainda não existe no HighLevel, crie-a lá à mão ({ $why }).
init-field-set = { $field } do contato agora é { $name }: com isso, a mensagem do workflow pode dizer o nome deste serviço.
init-field-none = Para a mensagem do workflow dizer o nome deste serviço, crie no HighLevel um campo personalizado { $field } nos contatos e rode `ghl-auth init` de novo.
init-field-scope = Um campo personalizado { $field } permitiria à mensagem do workflow dizer o nome deste serviço; para preenchê-lo, o aplicativo precisa do escopo { $scope }.
init-field-failed = O campo personalizado com o nome do serviço ficou como estava. { $why }
init-workflow =
    A mensagem vem de um workflow, que o HighLevel só deixa você mesmo criar: Automation > Workflows > Create.
    1. Trigger: Contact Tag, Tag Added, { $tag }.  2. Ação: Send SMS ou Send Email.  3. Ação: Remove Tag, { $tag }; sem ela, a próxima verificação não dispara nada.
init-not-yet = A verificação não deu certo. Faça o que está dito acima e rode `ghl-auth init` de novo: suas respostas ficam guardadas.
init-no-schedule = Nada repete a verificação ainda. Depois: ghl-auth schedule install, ou o serviço: ghl-auth schedule install --service
init-done =
    Pronto. A configuração está em { $path }.
    Como estão as coisas: ghl-auth status.  Se algo der errado: ghl-auth doctor
error-init_interrupted = A configuração foi interrompida.
    .action = Suas respostas ficam guardadas. Rode `ghl-auth init` de novo para continuar.
error-init_terminal = Não dá para perguntar aqui: { $why }
    .action = Rode `ghl-auth init` em um terminal, ou dê as respostas como opções: ghl-auth init --help
error-init_answer = { $flag } não pode ser usado. { $why }
    .action = Informe outro valor e rode o comando de novo.
error-init_missing = Aqui não há a quem perguntar, e falta isto: { $flags }.
    .action = Informe como opções, ou rode `ghl-auth init` em um terminal. O que é cada uma: ghl-auth init --help
error-init_by_hand = O `init` configura um aplicativo para uma localização, e { $name } é para outra coisa.
    .action = Tire { $name }, ou escreva essas configurações no .env à mão, como mostra o .env.example.
error-init_login = A configuração está gravada. Agora uma pessoa precisa autorizar o aplicativo, e não há ninguém aqui.
    .action = Abra o link e depois rode: ghl-auth init --yes --code CODIGO. Ou rode `ghl-auth login` e depois `ghl-auth init` de novo.
error-init_another = Os tokens que estão aqui são da localização { $found }, e a configurada é { $wanted }.
    .action = Rode `ghl-auth login` e escolha { $wanted }, ou informe --location { $found }.
error-init_unwritten = { $path } não pode ser gravado: { $why }
    .action = Dê a si mesmo permissão de escrita no arquivo e na pasta, e rode `ghl-auth init` de novo.

## Disponibilidade, a página de status e os selos

arg-watch = Mostra de novo a cada tantos segundos (2, se você não disser quantos), até você apertar q.
status-uptime = Disponibilidade em { $window } dias (UTC), hoje à direita
status-uptime-latest = Disponibilidade em { $window } dias (UTC), aqui os últimos { $days }
status-no-history = Disponibilidade: não se sabe. As verificações só são lembradas depois que o serviço rodou sobre este store: ghl-auth serve
status-watching = { $at }, a cada { $span }. q sai.
uptime-good = boa
uptime-mixed = em parte
uptime-bad = ruim
uptime-unchecked = sem verificação
error-watch_no_terminal = O --watch desenha em um terminal, e aqui não há nenhum.
    .action = Rode em um terminal; para um programa ou um arquivo, rode `ghl-auth status` ou `ghl-auth status --json` quantas vezes quiser.
error-watch_terminal = Não dá para desenhar no terminal: { $why }
    .action = Rode `ghl-auth status` sem --watch, ou em outro terminal.
bad-status-page = "{ $value }" não é off, on nem names
var-GHL_AUTH_STATUS_PAGE = se qualquer pessoa pode ver como está o serviço, em /status e nos selos: off, on ou names (com os nomes das instalações)
state-up = no ar
state-late = atrasado
state-down = fora do ar
state-unknown = não se sabe
public-title = Status
public-up = No ar
    .more = Tudo o que foi verificado funciona.
public-late = Atrasado
    .more = Uma parte não funciona como deveria, ou há verificações atrasadas.
public-down = Fora do ar
    .more = Nada funciona no momento.
public-unknown = Ainda sem verificação
    .more = Ninguém olhou ainda como está.
public-since = Desde
public-checked = Última verificação
public-share = Verificações boas, em 90 dias
public-days = Os últimos 90 dias
public-from = Desde
public-more = Há outras que não aparecem aqui.
uptime-told = Dias: { $good } bons, { $mixed } em parte, { $bad } ruins, { $unchecked } sem verificação.
help-badge = Selos: imagens para sites, que dizem em uma palavra como está o serviço ou uma instalação.
help-badge-create = Cria um selo e mostra o endereço dele e o que colar.
help-badge-list = Mostra os selos e os endereços deles.
help-badge-revoke = Revoga um selo: daí em diante o endereço dele não leva a nada.
arg-badge-create-location = Sobre esta location, e não sobre o serviço inteiro.
arg-badge-create-company = Sobre esta company, e não sobre o serviço inteiro.
arg-label = O texto antes da palavra: até 64 caracteres; ghl-auth, se você não disser. Todos podem ler.
arg-badge = O selo: o nome, o endereço ou o fim do endereço.
head-badge = Selo
head-label = Texto
head-created = Criado
badge-the-service = o serviço
badge-made = Este é o selo { $label } | { $word }. Quem tem o endereço o vê. Para colar como Markdown e como HTML:
badge-page-off = Os selos só aparecem quando GHL_AUTH_STATUS_PAGE é on (ou names) e o serviço foi reiniciado.
badge-local = Este endereço é desta máquina. Troque-o pelo endereço em que os outros alcançam o seu serviço.
badges-none = Não há selos. Para criar um: ghl-auth badge create
badge-revoked = O selo { $name } foi revogado. Navegadores ainda podem mostrá-lo por um minuto.
error-badge_unknown = Não há um selo `{ $name }`.
    .action = Veja o nome dele com: ghl-auth badge list
error-badge_label = O texto de um selo tem de 1 a 64 caracteres, em uma linha só.
    .action = Informe outro com --label.

## The sandbox's console

sandbox-console = No navegador, para observar e provocar falhas: { $url }
console-title = HighLevel de brinquedo (sandbox)
console-nav = Nesta página
console-what-it-is = Isto não é o HighLevel: tudo aqui é inventado e vive na memória desta máquina. Provoque uma falha e veja o seu serviço sobreviver.
console-lost = O sandbox não responde; o mais provável é que tenha sido encerrado. Inicie-o de novo, e esta página continua.
console-verdict-good = O HighLevel responde como deve
console-verdict-trouble = { $count ->
    [one] Uma coisa dá errado agora
   *[other] { $count } coisas dão errado agora
}
console-held = { $count ->
    [one] Uma requisição espera até que a retenção dela seja desfeita.
   *[other] { $count } requisições esperam até que a retenção delas seja desfeita.
}
console-throw = Provocar falhas
console-none-active = Nada dá errado.
console-take-back = Desfazer
console-happened = { $count ->
    [one] aconteceu uma vez
   *[other] aconteceu { $count } vezes
}
console-all-off = Desligar tudo
console-all-off-what = Falhas, retenções, suspensões, limites, escopos e o envio de webhooks voltam a ser como no início.
console-single = Uma falha, para requisições escolhidas
console-which = Quais requisições
console-or-path = Ou todo caminho que comece com
console-how-often = Quantas vezes
console-chance = Por acaso
console-once = uma vez
console-times = { $count ->
    [one] uma vez
   *[other] { $count } vezes
}
console-five-minutes = por 5 minutos do relógio dele
console-always = até ser desfeita
console-until = até { $at }
console-on-any = qualquer uma
console-on-token = qualquer uma por tokens
console-on-refresh = renovar
console-on-exchange = trocar um código
console-on-mint = emitir o token de uma location
console-on-contact_read = ler um contato
console-on-tag_add = pôr uma tag
console-on-tag_remove = tirar uma tag
console-on-location_read = ler uma location
console-on-path = { $path }…
console-outage-down = Fora do ar por 5 minutos (503)
console-outage-unreachable = Inacessível por 5 minutos
console-outage-answers_lost = As próximas 3 respostas com tokens se perdem
console-outage-rate_limited = Limite de chamadas atingido por 1 minuto (429)
console-outage-slow = Toda resposta atrasa 8 s, por 5 minutos
console-outage-flaky = Um terço das respostas falha, por 5 minutos
console-processed = { $fault }, depois de feito o trabalho
console-fault-lose_answer = Feito, e a resposta se perde
console-fault-lose_request = A conexão se fecha, nada é feito
console-fault-reset = Conexão derrubada (RST)
console-fault-cut_after = { $count ->
    [1] Cortada após 1 byte
   *[other] Cortada após { $count } bytes
}
console-fault-delay = Feito na hora, respondido { $seconds } s depois
console-fault-delay_before = Feito só { $seconds } s depois
console-fault-status = Status { $code }
console-fault-gateway_html = 502 em HTML
console-fault-truncated_json = Metade do JSON
console-fault-fields_missing = Sem { $fields }
console-fault-fields_set = Outro valor em { $fields }
console-fault-body = Uma página HTML no lugar da resposta
console-fault-rate_limited = 429 Too Many Requests
console-fault-not_active = 400 Location is not active
console-fault-refused_client = 401 Invalid client credentials!
console-fault-invalid_grant = 400 Invalid grant
console-fault-hold = Trava, nada é feito
console-fault-hold-answers = Feito, e a resposta trava
console-is-suspended = { $name } está suspensa
console-clock = O relógio dele
console-ahead = { $span } à frente do desta máquina
console-ahead-by = Adiantar
console-clock-what = Só do lado do HighLevel: tokens expiram, passam os 30 segundos de um refresh token já usado. O seu serviço segue o próprio relógio. Não dá para atrasar.
console-count-requests = Requisições
console-count-refreshes = Renovações pedidas
console-count-rotations = Refresh tokens consumidos
console-count-repeats = Mesma resposta dada de novo
console-count-reuse = Usados tarde demais
console-count-limited = Recusadas pelo limite
console-count-messages = Mensagens enviadas
console-tokens = Tokens
console-tokens-what = Os mais novos primeiro. De um token aparecem os quatro últimos caracteres, nunca ele inteiro.
console-no-tokens = Ninguém pediu tokens ainda.
console-head-at = Quando
console-head-whose = De quem
console-head-how = Pedido por
console-head-outcome = Resultado
console-head-access = Access token
console-head-refresh = Refresh token
console-head-request = Requisição
console-head-status = Status
console-head-took = Levou
console-head-fault = Falha
console-head-caller = Token
console-head-place = Agência ou location
console-head-app = O aplicativo
console-head-do = O que se pode fazer com ela
console-by-code = código
console-by-refresh = renovação
console-by-minting = token da agência
console-generation = geração { $generation }
console-issued = geração { $generation } emitida
console-repeated = geração { $generation } dada de novo
console-not-processed = uma falha respondeu, nada foi feito
console-alive = vivo
console-alive-until = vivo até { $at }
console-used-up = consumido
console-used-up-repeatable = consumido; mesma resposta até { $at }
console-ended = acabou
console-requests = Requisições
console-no-requests = Ninguém pediu nada ainda.
console-contacts = Contatos e tags
console-no-tags = sem tags
console-tag-goes = O workflow está rodando; ele tira a tag às { $at }.
console-messages = Mensagens do workflow
console-message = para { $name }, por causa da tag
console-no-messages = O workflow ainda não enviou nada. Ele envia quando a tag da verificação de saúde é posta.
console-places = Agência e locations
console-places-what = UPDATE e LocationCreate são webhooks; instalar e desinstalar também enviam um. Instalar por aqui não dá código a ninguém.
console-more-locations = { $count ->
    [one] Há mais uma location; procure para vê-la.
   *[other] Há mais { $count } locations; procure para vê-las.
}
console-company = A agência
console-installed = instalado em { $at }
console-not-installed = não instalado
console-suspended = suspensa
console-suspend = Suspender
console-resume = Reativar
console-revoke-access = Encerrar access tokens
console-revoke = Encerrar todos os tokens
console-uninstall = Desinstalar
console-install = Instalar
console-consent = Consentimento, como vindo do marketplace
console-redirect-uri = Depois o navegador vai para
console-consent-go = Ir à página de consentimento
console-consent-what = Sem um state do seu serviço, como quando alguém instala pelo marketplace do HighLevel. Com um, comece no painel ou com ghl-auth login: eles trazem até aqui.
console-webhooks = Webhooks
console-webhook-url = Para onde são enviados; vazio para lugar nenhum
console-signature = Assinatura
console-signature-present = boa (x-ghl-signature)
console-signature-legacy = só a antiga (x-wh-signature)
console-signature-both = as duas
console-signature-not_applicable = N/A ao lado da antiga
console-signature-wrong_key = por uma chave errada
console-signature-missing = nenhuma
console-without = Membros omitidos
console-twice = Cada um duas vezes
console-held-back = Retidos
console-set = Definir
console-let-go = Soltar
console-let-go-last = Soltar, os mais novos primeiro
console-replay = Enviar todos de novo
console-webhooks-held = { $count ->
    [one] Um webhook está retido.
   *[other] { $count } webhooks estão retidos.
}
console-webhooks-nowhere = Ninguém é avisado de nada: não há endereço definido.
console-webhooks-none = Nada foi enviado ainda.
console-on-its-way = a caminho
console-limits = Limite de chamadas e escopos
console-burst = Chamadas
console-interval = Em quantos segundos
console-enforced = A que passar é recusada
console-scopes = Escopos dos tokens emitidos de agora em diante
console-scopes-all = Todos
console-scopes-needed = O que uma verificação precisa
console-scopes-reading = Só leitura
console-app = O aplicativo
console-app-id = O id dele
console-access-life = Vida de um access token
console-grace = Um refresh token usado recebe a mesma resposta por
console-ledger = registro
console-begin-again = Recomeçar
console-begin-again-ask = Esquecer todas as autorizações, tags e requisições? O seu serviço terá de ser autorizado de novo.
console-done-thrown = Falha provocada.
console-done-taken_back = Desfeito.
console-done-all_off = Tudo desligado: o HighLevel responde como no início.
console-done-moved = O relógio foi adiantado.
console-done-changed = Feito.
console-done-told = Avisado, se houver um endereço para webhooks.
console-done-begun_again = Tudo foi esquecido; o sandbox recomeçou.
console-done-nothing = Nada foi feito: o formulário não foi entendido. Veja o que você preencheu e tente de novo.

## O serviço, mantido pelo systemd

service-installed = O serviço está no ar e inicia junto com a máquina.
service-see =
    Para vê-lo: systemctl status ghl-auth.  O que ele diz: journalctl -u ghl-auth -f.  Depois de mudar o .env: systemctl restart ghl-auth
    Para encerrá-lo de vez: ghl-auth schedule remove --service
service-see-user =
    Para vê-lo: systemctl --user status ghl-auth.  O que ele diz: journalctl --user -u ghl-auth -f.  Depois de mudar o .env: systemctl --user restart ghl-auth
    Para encerrá-lo de vez: ghl-auth schedule remove --service
service-linger = Ele termina quando você sai da sessão e começa quando você entra. Para ficar sempre no ar, execute isto uma vez: loginctl enable-linger { $user }
service-dashboard = O dashboard: `ghl-auth dashboard` mostra um link que já entra com a sua sessão.
service-besides-cron = Uma entrada do cron também faz verificações, de que o serviço não precisa. Para retirá-la: ghl-auth schedule remove
service-besides-timer = Um timer do systemd também faz verificações, de que o serviço não precisa. Para retirá-lo: ghl-auth schedule remove --systemd
service-removed = O serviço não está mais no ar e não inicia mais junto com a máquina.
service-none = O systemd não mantém nenhum serviço configurado daqui. Execute: ghl-auth schedule install --service
error-schedule_no_systemd = O systemd não está rodando aqui, então não tem como manter o serviço no ar.
    .action = Use uma entrada do cron para a verificação (`ghl-auth schedule install`), ou faça o que inicia os programas desta máquina iniciar o `ghl-auth serve`.
error-service_not_started = O serviço não iniciou. { $why }
    .action = Corrija o que ele diz e execute o comando de novo: até lá, o systemd não guarda nada dele. Para vê-lo iniciar diante de você: ghl-auth serve
error-service_unit_there = { $path } já existe e não foi escrito por este comando.
    .action = Fique com essa unit: o arquivo de configuração está indicado nela (o de um pacote é /etc/ghl-auth/env), e `systemctl restart ghl-auth` a inicia. Ou retire-a e execute o comando de novo.
error-service_of_another = O systemd já mantém o serviço de outra pasta: { $folder }
    .action = Execute `ghl-auth schedule remove --service` lá, e depois este comando de novo. Ou deixe aquele e use `ghl-auth schedule install` para a configuração desta pasta.
doctor-service_stopped = O serviço está configurado no systemd e não está no ar.
    .action = Veja por quê: journalctl -u ghl-auth (como usuário: journalctl --user -u ghl-auth). Depois execute `ghl-auth schedule install --service`, que o inicia, ou `ghl-auth schedule remove --service`.

## O doctor, no PostgreSQL

doctor-tables_earlier = As tabelas em { $place } são de uma versão anterior do ghl-auth; por isso nada mais foi examinado lá.
    .action = Execute `ghl-auth status`, que as traz para esta versão; os serviços da versão anterior continuam enquanto isso. Depois execute o doctor de novo.
doctor-records_missing = Em { $place } consta que as tabelas do que o serviço lembra estão lá, e algumas não estão: ficaram fora de um dump ou foram apagadas.
    .action = Restaure um dump inteiro do schema. Sem ele: pare o serviço, execute lá `DELETE FROM SCHEMA.versions WHERE part = 'records'` (com o nome do schema) e apague o que sobrou dessas tabelas e funções. O serviço as cria de novo, sem chaves de API e sem histórico; os tokens não estão entre elas.

## Por que um aviso não chegou

reason-it-can-t-be-reached = não dá para alcançar o endereço
reason-the-connection-broke = a conexão caiu
reason-no-answer-within-10-seconds = sem resposta em 10 segundos
reason-its-name-is-not-known = o nome não é conhecido
reason-its-address-is-private--and-private-addresses-are-not-allowed = o endereço é privado, e endereços privados não são permitidos
reason-in-clear-text-nothing-goes-beyond-the-private-network--its-address-needs-https = sem criptografia nada sai da rede privada: o endereço precisa de https
reason-its-address-makes-no-sense = o endereço não faz sentido
reason-TLS-can-t-be-prepared = não dá para preparar o TLS
reason-it-offers-no-TLS = o servidor não oferece TLS
reason-TLS-with-it-failed = o TLS com o servidor falhou
reason-it-took-too-long = demorou demais
reason-its-answer-makes-no-sense = a resposta não faz sentido
reason-it-can-t-be-reached--or-the-connection-broke = não dá para alcançar o servidor, ou a conexão caiu
reason-the-connection = a conexão
reason-the-user-name-and-the-password = o usuário e a senha
reason-TLS = o TLS
reason-the-sender = o remetente
reason-the-recipient = o destinatário
reason-the-message = a mensagem
delivery-answered = o endereço respondeu { $code }
delivery-put-off = o servidor adiou { $what }: { $code }
delivery-refused = o servidor recusou { $what }: { $code }
delivery-no-use = o servidor não aceita { $what }
