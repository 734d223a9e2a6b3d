//! What must go, and what must stay.

use proptest::prelude::*;

use super::*;
use crate::json::tests::any_value;

/// What is masked, and how it looks then.
const MASKED: &[(&str, &str)] = &[
    // By shape.
    ("key sk-proj-abcDEF0123456789abcdef is", "key [masked] is"),
    ("sk-ant-api03-Ab1_cd-ef2345678901234567", "[masked]"),
    ("(sk_live_51H8abcdefghij0123456789)", "([masked])"),
    ("rk_test_51H8abcdefghij0123456789.", "[masked]."),
    ("whsec_abcdefghij0123456789", "[masked]"),
    ("pushed with ghp_abcdefghijklmnopqrstuvwxyz0123456789", "pushed with [masked]"),
    ("gho_16C7e42F292c6912E7710c838347Ae178B4a", "[masked]"),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789", "[masked]"),
    ("glpat-abcdefghij0123456789", "[masked]"),
    ("xoxb-123456789012-1234567890123-abcdefghijklmnopqrstuvwx", "[masked]"),
    (
        "post to https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX now",
        "post to https://[masked] now",
    ),
    ("AKIAIOSFODNN7EXAMPLE", "[masked]"),
    ("ASIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "[masked]:[masked]"),
    ("S('AKIAIOSFODNN7EXAMPLE', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY')", "S('[masked]', '[masked]')"),
    (r#"{"AKIAIOSFODNN7EXAMPLE":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}"#, r#"{"[masked]":"[masked]"}"#),
    ("AIzaSyA-1234567890abcdefghijklmnopqrstu", "[masked]"),
    ("ya29.a0AfH6SMBx1234567890abcdef", "[masked]"),
    ("hf_abcdefghijklmnopqrstuvwxyz012345", "[masked]"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "[masked]"),
    ("SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "[masked]"),
    ("bot 123456789:AAabcdefghijklmnopqrstuvwxyz0123456 up", "bot [masked] up"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U.", "jwt [masked]."),
    ("got Bearer abc123def456 back", "got Bearer [masked] back"),
    ("bearer%20abc123def456", "bearer%20[masked]"),
    ("sent Basic dXNlcjpwYXNzd29yZA== to it", "sent Basic [masked] to it"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----\nafter", "[masked]\nafter"),
    (r"k = '-----BEGIN PRIVATE KEY-----\nMIIEow\n-----END PRIVATE KEY-----\n'", r"k = '[masked]\n'"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAA", "[masked]"),
    (r#"["-----BEGIN EC PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAA", 1]"#, r#"["[masked]", 1]"#),
    ("postgres://bob:hunter2@db.example.com:5432/x", "postgres://bob:[masked]@db.example.com:5432/x"),
    ("redis://:hunter2@localhost:6379/0", "redis://:[masked]@localhost:6379/0"),
    ("https://bob:hun:t@er2@example.com/", "https://bob:[masked]@example.com/"),
    ("git clone https://0123456789abcdef@github.com/a/b", "git clone https://[masked]@github.com/a/b"),
    (
        "ssh://git@github.com/a/b https://bob:%s@x/ https://bob:{password}@x/ https://bob:@x/",
        "ssh://git@github.com/a/b https://bob:%s@x/ https://bob:{password}@x/ https://bob:@x/",
    ),
    ("https://a.com/x?a=1&X-Amz-Signature=abcdef&b=2", "https://a.com/x?a=1&X-Amz-Signature=[masked]&b=2"),
    ("https://a.com/x?sv=1&sig=abc%2Fdef", "https://a.com/x?sv=1&sig=[masked]"),
    ("mail bob.smith+x@mail.example.co.uk, please", "mail [masked], please"),
    ("see https://example.com,bob@example.com", "see https://example.com,[masked]"),
    ("andré@exämple.fr", "[masked]"),
    ("?email=bob%40example.com&x=1", "?email=[masked]&x=1"),
    ("first line\\nghp_abcdefghijklmnopqrstuvwxyz0123456789\\nlast", "first line\\n[masked]\\nlast"),
    ("first line\\nsk-abcdefghijklm0123456789\\nbob@example.com\\tx", "first line\\n[masked]\\n[masked]\\tx"),
    ("\u{1b}[31msk-abcdefghijklm0123456789\u{1b}[0m", "\u{1b}[31m[masked]\u{1b}[0m"),
    // Cards.
    ("4111111111111111", "[masked]"),
    ("card 4111 1111 1111 1111 12/27", "card [masked] 12/27"),
    ("card:5555-5555-5555-4444.", "card:[masked]."),
    ("3782 822463 10005", "[masked]"),
    ("378282246310005, 6011111111111117", "[masked], [masked]"),
    ("3056 930902 5904", "[masked]"),
    ("2223003122003222", "[masked]"),
    (r"a\n4111111111111111\n", r"a\n[masked]\n"),
    ("?card=a%204111111111111111", "?card=a%20[masked]"),
    (r#"{"card":4111111111111111,"n":1}"#, r#"{"card":"[masked]","n":1}"#),
    // By name: plain text, source, environments.
    ("password=hunter2", "password=[masked]"),
    ("password = hunter2", "password = [masked]"),
    ("Password: hunter2", "Password: [masked]"),
    ("login failed (password=hunter2)", "login failed (password=[masked])"),
    ("login failed, password=hunter2, user=bob", "login failed, password=[masked], user=bob"),
    ("login failed, password=hunter2.", "login failed, password=[masked]."),
    ("password=aB,c;D9&x|y user=bob", "password=[masked] user=bob"),
    ("user=bob;password=hunter2;host=x", "user=bob;password=[masked];host=x"),
    ("Server=x;Uid=bob;Pwd=hunter2;", "Server=x;Uid=bob;Pwd=[masked];"),
    ("host=x password='hunter 2' dbname=y", "host=x password='[masked]' dbname=y"),
    ("PGPASSWORD=hunter2 psql", "PGPASSWORD=[masked] psql"),
    ("export GITHUB_TOKEN=swordfish", "export GITHUB_TOKEN=[masked]"),
    ("TOKEN=swordfish", "TOKEN=[masked]"),
    ("client_secret: swordfish", "client_secret: [masked]"),
    ("api-key: swordfish", "api-key: [masked]"),
    ("apiKey=>swordfish", "apiKey=>[masked]"),
    ("X-Api-Key: swordfish", "X-Api-Key: [masked]"),
    ("token: abc123", "token: [masked]"),
    ("token=abcdefghijklmnopqrstuvwxyz", "token=[masked]"),
    ("token = 'mysecrettokenisthis'", "token = '[masked]'"),
    ("AccountName=x;AccountKey=abc;SharedAccessKey=abc==", "AccountName=x;AccountKey=abc;SharedAccessKey=[masked]"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = [masked]"),
    ("session_id=abc", "session_id=[masked]"),
    ("JSESSIONID=0A1B", "JSESSIONID=[masked]"),
    ("passphrase: correct horse battery staple", "passphrase: [masked]"),
    ("seed phrase: abandon ability able\nnext", "seed phrase: [masked]\nnext"),
    ("The API key: swordfish", "The API key: [masked]"),
    ("Access token = swordfish", "Access token = [masked]"),
    ("[('X-Api-Key', 'swordfish'), ('Accept', 'x')]", "[('X-Api-Key', '[masked]'), ('Accept', 'x')]"),
    ("seed_phrase: abandon ability able\nnext", "seed_phrase: [masked]\nnext"),
    ("cvv: 123", "cvv: [masked]"),
    ("mysql --password hunter2 -u bob", "mysql --password [masked] -u bob"),
    ("mysql --password=hunter2 -u bob", "mysql --password=[masked] -u bob"),
    ("gh --token swordfish", "gh --token [masked]"),
    ("Command '['mysql', '--password', 'hunter2']' returned", "Command '['mysql', '--password', '[masked]']' returned"),
    ("<password>hunter2</password>", "<password>[masked]</password>"),
    ("a=1\\npassword=hunter2\\nb=2", "a=1\\npassword=[masked]\\nb=2"),
    (r"a\tpassword=x y", r"a\tpassword=[masked] y"),
    ("password=$2b$12$abc", "password=[masked]"),
    ("password=[masked]hunter2", "password=[masked]"),
    ("Password: MySecret", "Password: [masked]"),
    ("password=!@#$%^&*()", "password=[masked])"),
    // Queries.
    ("GET /x?token=swordfish&n=1", "GET /x?token=[masked]&n=1"),
    ("GET /x?a=1&access_token=swordfish HTTP/1.1", "GET /x?a=1&access_token=[masked] HTTP/1.1"),
    ("r=https%3A%2F%2Fa.com%3Fapi_key%3Dswordfish", "r=https%3A%2F%2Fa.com%3Fapi_key%3D[masked]"),
    ("user[password]=swordfish&x=1", "user[password]=[masked]&x=1"),
    // Header lines.
    ("Authorization: Bearer abc\nHost: x", "Authorization: [masked]\nHost: x"),
    (
        "Authorization: Digest username=\"Mufasa\", realm=\"x\", response=\"6629fae4\"\r\nHost: x",
        "Authorization: [masked]\r\nHost: x",
    ),
    ("Proxy-Authorization: Negotiate abc", "Proxy-Authorization: [masked]"),
    ("curl -H 'Authorization: token abc' https://x", "curl -H 'Authorization: [masked]' https://x"),
    (
        r"b'GET / HTTP/1.1\r\nAuthorization: Basic abc\r\nHost: x'",
        r"b'GET / HTTP/1.1\r\nAuthorization: [masked]\r\nHost: x'",
    ),
    ("authorization=Basic abc, host=x", "authorization=[masked], host=x"),
    ("Cookie: a=b; c=d", "Cookie: [masked]"),
    ("Set-Cookie: id=a3fWa; Secure", "Set-Cookie: [masked]"),
    // JSON, and JSON in JSON.
    (r#"{"password":"hunter2","n":1}"#, r#"{"password":"[masked]","n":1}"#),
    (r#"{"password" : "hun\"ter2" , "n":1}"#, r#"{"password" : "[masked]" , "n":1}"#),
    ("{\n  \"password\":\n    \"hunter2\"\n}", "{\n  \"password\":\n    \"[masked]\"\n}"),
    (r#"{"pin_code":1,"secret":12345,"x":1}"#, r#"{"pin_code":1,"secret":"[masked]","x":1}"#),
    (r#"{"token":true,"auth":[1,[2,"]"]],"x":1}"#, r#"{"token":"[masked]","auth":"[masked]","x":1}"#),
    (r#"{"credentials":{"user":"x}","n":{"a":1}},"x":1}"#, r#"{"credentials":"[masked]","x":1}"#),
    (r#"{"credentials":{"user":"x","pas"#, r#"{"credentials":"[masked]""#),
    (r#"{"passwordHash":"x"}"#, r#"{"passwordHash":"[masked]"}"#),
    (r#""{\"password\": \"hunter2\", \"n\": 1}""#, r#""{\"password\": \"[masked]\", \"n\": 1}""#),
    (r#""{\"auth\": {\"user\": \"x\"}, \"n\": 1}""#, r#""{\"auth\": \"[masked]\", \"n\": 1}""#),
    (r#"{"log":"password=abc\" more"}"#, r#"{"log":"password=[masked]\" more"}"#),
    (r#"{"log":"auth=('u', 'p","b":")"}"#, r#"{"log":"auth=[masked]","b":")"}"#),
    (r#"["password\"={\"",1]"#, r#"["password\"=\"[masked]\"",1]"#),
    (r#"{"password":"hunter2"#, r#"{"password":"[masked]"#),
    // Python.
    ("{'password': 'hunter2', 'n': 1}", "{'password': '[masked]', 'n': 1}"),
    ("{'password': b'hunter2', 'token': 5}", "{'password': b'[masked]', 'token': '[masked]'}"),
    ("User(name='bob', password='hunter2')", "User(name='bob', password='[masked]')"),
    ("User(password=SecretStr('hunter2'), n=1)", "User(password=SecretStr([masked]), n=1)"),
    ("password = \"\"\"hunter2\"\"\"", "password = \"\"\"[masked]\"\"\""),
    ("password: str = 'hunter2'", "password: str = '[masked]'"),
    ("def f(a, password: Optional[str] = 'hunter2', n=1):", "def f(a, password: Optional[str] = '[masked]', n=1):"),
    ("if password == 'hunter2':", "if password == '[masked]':"),
    ("os.environ[\"API_KEY\"] = \"swordfish\"", "os.environ[\"API_KEY\"] = \"[masked]\""),
    ("requests.get(url, auth=('bob', 'hunter2'))", "requests.get(url, auth=[masked])"),
    ("auth = HTTPBasicAuth('bob', 'hunter2')", "auth = HTTPBasicAuth([masked])"),
    ("    password = hunter2 # x", "    password = [masked] # x"),
    ("headers={'Authorization': f'Token {x}abc'}", "headers={'Authorization': f'[masked]'}"),
];

/// What stays as it is.
const LEGIBLE: &[&str] = &[
    "",
    "Hello, world. 3.14159265358979 and 1e-12, 12345678901234567890",
    "4111111111111112 has no check digit, 0.4111111111111111 is a fraction, x4111111111111111 a name",
    "[5105 5105 5105 5100 5105 5105]",
    "1700000000000 1700000000000000 1700000000000000000 20261126093000",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709 d41d8cd98f00b204e9800998ecf8427e",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "[-4111111111111111, 1]",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-4111111111111111-01",
    "550e8400-e29b-41d4-a716-446655440000",
    "skill `reset-password` version 3 ended as error: division by zero",
    "skill `token`: 3 findings, skill `auth-key`: 1 finding",
    "runs are confined at the level `strict`; not guaranteed: network",
    "2026-11-26T09:20:48.123Z 127.0.0.1:8080 ::1 C:\\temp\\new",
    "https://example.com:8080/a@b?x=1#token postgres://db.example.com/x https://user@/",
    "pip install sk-learn-contrib-package risk-assessment-2024-report-final disk-0123456789abcdef0123",
    "SLOVAKIAECONOMICREPORT2024 task_live_20240101120000000",
    "Basic training, Basic authentication, Bearer of news, bearer token",
    "lodash@4.17.21 x = a@b.T + q@k.transpose(0) @property @app.route",
    "-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----",
    "if line == '-----BEGIN PRIVATE KEY-----': raise",
    // About secrets.
    "password: must be longer, password: required, Invalid password: too short",
    "token: expected NAME, unexpected token: '(' or 'else'",
    "KeyError: 'password'",
    "missing: ['password', 'name'], ('access_token', 'refresh_token'), ('password', 'name', 'x'), (\"token\", \"x\")",
    "primary key: abc1234567, the key: abc1234567, sort key = abc1234567",
    "max_tokens=4096, tokens: 12345678, token_count=123456, prompt_tokens=1000000",
    r#"{"max_tokens": 4096, "tokens": [1, 2], "token_type": "bearer", "eos_token": "</s>"}"#,
    r#"{"password": null, "keys": [1], "cache_key": "abc123def", "author": "bob1234567"}"#,
    "{'password': None, 'primary_key': 'id1234567', 'public_key': 'abc'}",
    "password_length=12 has_password=1 secret_name=abc auth_method=x1234567 cookie_count=1234567",
    "password=**** token=<your token> api_key=${API_KEY} secret={secret} pwd=%s",
    "Usage: login <user> <password> [--token TOKEN] [--password PASSWORD]",
    "use --password or --token-file",
    "PASS: 12 FAIL: 0, pass=12",
    "pin: 13, pin=1234",
    "key: value, key=abc123456, monkey=1, keyboard: x123456",
    "sorted(x, key=lambda pair: pair[1])",
    "authors: bob1234567, authentic: yes, tokenizer=bpe123456",
    // Python.
    "token = tokens[i]",
    "token = lexer.next_token()",
    "token = self.token",
    "for token in tokens:",
    "if not password:",
    "if token == 'else' or token != \"(\":",
    "password = os.environ['DB_PASSWORD']",
    "password = getpass.getpass('Password: ')",
    "secret = hmac.new(key, message, hashlib.sha256).hexdigest()",
    "api_key = load_key(path)[0]",
    "connect(user=user, password=self.password, auth=config.auth)",
    "def login(user: str, password: str, token: Optional[str] = None) -> bool:",
    "password: str",
    "def sign(private_key: rsa.PrivateKey, data: bytes, token: AccessToken = None):",
    "self.password = password",
    "print(\"Password:\", pw)",
    "print('token: ', 'x')",
    "raise ValueError(\"password: required\")",
    "print(f\"token={token} password={user.password!r}\")",
    "lambda token: token.text",
    "token_ids = [1, 2, 3]",
    "tokens: list[str] = []",
    "show_password=True, password=None",
    "auth=(user, password)",
    "headers = {'Accept': 'x', 'X-Token': get('x')}",
    "from secrets import token_hex; secrets.token_hex(16)",
    "Token(type='NAME', token='if')",
    "class Token: pass",
    "std::token::Kind token://x",
];

#[test]
fn what_must_go_goes_and_the_name_stays() {
    for (text, expected) in MASKED {
        assert_eq!(mask_text(text), *expected, "{text}");
    }
}

#[test]
fn what_must_stay_stays() {
    for text in LEGIBLE {
        assert!(matches!(mask_text(text), Cow::Borrowed(same) if same == *text), "{text}\n{}", mask_text(text));
    }
}

#[test]
fn names_of_secrets_and_others() {
    let all = |names: &'static str| names.split_ascii_whitespace();
    let strong = "password PASSWORD passwd pwd passphrase secret secrets api_key apikey api-key apiKey APIKey API_KEYS access_key \
        accessKeys private_key privateKey authorization Proxy-Authorization session_id sessionId JSESSIONID PHPSESSID client_secret \
        clientSecret db_password dbPassword passwordHash password_hash password2 old_password PGPASSWORD userpassword user[password] \
        spring.datasource.password AWSSecretAccessKey aws_secret_access_key access_token accessToken authtoken refresh_tokens X-Auth-Token \
        GITHUB_TOKEN csrf_token OAuthToken db_pass smtp_pw mnemonic seed_phrase cvv CVV2 secret_id signing_key ssh_key subscription-key";
    for name in all(strong) {
        assert_eq!(name::of(name), Name::Strong, "{name}");
    }
    for name in all(
        "token myToken auth basic_auth authHeader cookie Set-Cookie session_cookies credential credentials aws_credentials token_value",
    ) {
        assert!(matches!(name::of(name), Name::Token | Name::Loose), "{name}");
    }
    let plain = "tokens max_tokens token_count tokenCount prompt_tokens tokenizer token_type eos_token pad_token next_token cost_per_token \
        token_ids key keys cache_key primary_key foreign_key public_key sort_key key_order keyboard monkey author authors authentic \
        auth_method auth_url authority cookie_name cookie_policy session session_count id trace_id user_id access_key_id password_length \
        passwordless has_password is_secret show_password secret_name secretary secretion password_policy pass passed low_pass pass_rate \
        compass pin pins pinned pw power spwan phrase phrases token.type auth.user credentials_path path kind message x '' é _ - .";
    for name in all(plain) {
        assert_eq!(name::of(name), Name::Plain, "{name}");
    }
}

#[test]
fn no_field_of_ours_is_named_for_a_secret() {
    let page = include_str!("../../../docs/STATISTICS.md");
    let (before, rest) = page.split_once("\n## What is masked\n").expect("that section");
    let page = format!("{before}{}", &rest[rest.find("\n#").expect("the next section")..]);
    let names = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    let secrets: Vec<_> = names.filter(|name| name::of(name) > Name::Plain).collect();
    assert!(secrets.is_empty(), "{secrets:?}");
}

fn masked(text: &str) -> String {
    let mut value = Value::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    mask(&mut value);
    value.to_text()
}

#[test]
fn members_are_masked_whole_and_deep() {
    for (text, expected) in [
        (r#"{"password":"x","n":1}"#, r#"{"password":"[masked]","n":1}"#),
        (r#"{"password":null,"token":7,"secret":true}"#, r#"{"password":null,"token":"[masked]","secret":"[masked]"}"#),
        (r#"{"a":[[{"b":{"apiKey":{"x":[1]}}}]]}"#, r#"{"a":[[{"b":{"apiKey":"[masked]"}}]]}"#),
        (r#"{"auth":["u","p"],"cookies":{"a":"b"}}"#, r#"{"auth":"[masked]","cookies":"[masked]"}"#),
        (r#"{"max_tokens":5,"tokens":[1],"pin":3}"#, r#"{"max_tokens":5,"tokens":[1],"pin":3}"#),
        (r#"["see password=x, bob@example.com",1.5]"#, r#"["see password=[masked], [masked]",1.5]"#),
        ("[4111111111111111,4111111111111112,41111111.11111111]", r#"["[masked]",4111111111111112,41111111.11111111]"#),
        (
            r#"{"bob@example.com":1,"[masked]":2,"eve@example.com":3}"#,
            r#"{"[masked] 2":1,"[masked]":2,"[masked] 3":3}"#,
        ),
        (
            r#"{"headers":[{"name":"X-Api-Key","value":"x"},{"name":"Accept","value":"x"}]}"#,
            r#"{"headers":[{"name":"X-Api-Key","value":"[masked]"},{"name":"Accept","value":"x"}]}"#,
        ),
        ("\"x\"", "\"x\""),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}

#[test]
fn depth_takes_no_stack() {
    const DEPTH: usize = 1_000_000;
    let mut value = Value::object([("password", Value::from("hunter2"))]);
    for _ in 0..DEPTH {
        value = Value::Array(vec![value]);
    }
    mask(&mut value);
    // Taken apart by hand: dropping it would recurse.
    while let Value::Array(mut items) = value {
        value = items.pop().expect("one item");
    }
    assert_eq!(value.to_text(), r#"{"password":"[masked]"}"#);
}

#[test]
fn events_carry_no_secrets() {
    let monitor = crate::monitor::Monitor::new(&crate::monitor::tests::settings()).expect("monitor");
    let fields = vec![
        ("password", Value::from("hunter2")),
        ("skill", Value::from("reset-password")),
        ("findings", Value::parse(r#"[{"line":"api_key = 'hunter2'"}]"#).expect("JSON")),
    ];
    monitor.event("k", crate::monitor::event::Severity::Info, "it raised password=hunter2", fields);
    let event = monitor.events().next(None).expect("event");
    assert!(!event.contains("hunter2"), "{event}");
    assert!(event.contains("it raised password=[masked]") && event.contains("reset-password"), "{event}");
}

/// Texts that make each part of a text be looked at again and again, if anything does.
#[test]
fn time_is_linear_in_hostile_texts() {
    let parts = [
        "token",
        "password=",
        "password:",
        "\"token\":[",
        "\"token\":{\"",
        "auth=(",
        "auth=('",
        "token=f(",
        "password=A('",
        "token={",
        "password='",
        "password=\"\"\"",
        "password=,,,",
        "password=,a",
        "password=(((",
        "password: Optional[",
        "password=a.password+",
        "<password>",
        "--password ",
        "'--password','",
        "Authorization: ",
        "passphrase: \\",
        "x://a:b@",
        "x://a@@",
        "a@b.",
        "a@b.cc.1",
        "://ghp_aaaaaaaaaaaaaaaaaaaa-",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----AAAAAAAAAAAAAAAA",
        "eyJaaaaaaaaaa.",
        "eyJaaaaaaaaaa-ghp_aaaaaaaaaaaaaaaaaaaa-",
        "4111 ",
        "4111-",
        "4",
        "\\",
        "\\password=",
        "\"",
        "a-",
        "%",
        "password=[masked]",
        "\n",
        "é",
    ];
    // What is quadratic takes longer even for so little, and that although builds for tests are slow.
    const LENGTH: usize = 50_000;
    for part in parts {
        let text = part.repeat(LENGTH / part.len());
        let started = std::time::Instant::now();
        mask_text(&text);
        let took = started.elapsed();
        assert!(took.as_secs() < 2, "{part:?}: {took:?}");
    }
}

/// One of each kind, with the rest by chance.
fn any_secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "sk-(proj-|ant-api03-)?[A-Za-z0-9]{19}[0-9]",
        "(sk|rk)_(live|test)_[A-Za-z0-9]{24}",
        "gh[pousr]_[A-Za-z0-9]{36}",
        "github_pat_[A-Za-z0-9_]{40}",
        "glpat-[A-Za-z0-9_-]{20}",
        "xox[abp]-[0-9]{12}-[A-Za-z0-9]{24}",
        "(AKIA|ASIA)[A-Z0-9]{16}",
        "(AKIA|ASIA)[A-Z0-9]{16}:[A-Za-z0-9/+]{40}",
        "AIza[A-Za-z0-9_-]{35}",
        "hf_[A-Za-z0-9]{34}",
        "eyJ[A-Za-z0-9_-]{20}\\.eyJ[A-Za-z0-9_-]{20}\\.[A-Za-z0-9_-]{30}",
        "-----BEGIN (RSA |EC )?PRIVATE KEY-----\n([A-Za-z0-9+/]{64}\n){2}-----END (RSA )?PRIVATE KEY-----",
        "[a-z]{1,8}([._+-][a-z0-9]{1,8})?@[a-z]{1,9}(-[a-z]{1,3})?\\.(com|org|co\\.uk)",
        "[a-z]{1,8}://[a-z]{0,8}:[A-Za-z0-9!$%^*()_+-]{3,11}[0-9]@[a-z]{1,8}\\.com",
        any_card(),
    ]
}

fn any_card() -> impl Strategy<Value = String> {
    ("(4[0-9]{3}|5[1-5][0-9]{2}|6011|3[47][0-9]{2})[0-9]{11}", "[ -]?").prop_map(|(digits, separator)| {
        let digits = if digits.starts_with('3') { &digits[..14] } else { &digits[..15] };
        let card = (0..10).map(|last| format!("{digits}{last}")).find(|card| card::is_card(card.as_bytes()));
        let card = card.expect("one of ten digits is right");
        let groups: &[usize] = if card.len() == 15 { &[4, 6, 5] } else { &[4, 4, 4, 4] };
        let mut rest = card.as_str();
        let groups = groups.iter().map(|&length| {
            let (group, others) = rest.split_at(length);
            rest = others;
            group
        });
        groups.collect::<Vec<_>>().join(&separator)
    })
}
/// What can stand around a secret, so that it is still one: no letter or digit touches it.
fn any_surroundings() -> impl Strategy<Value = (String, String)> {
    let before = prop_oneof![
        Just(String::new()),
        "([a-zé]{1,8}[ ,.:;/|(\\[{<>\"'=]{1,2}){1,3}",
        "[a-z]{1,5}\\\\n",
        "[a-z ]{0,9}\n",
        Just("https://example.com/a?b=".to_owned()),
    ];
    let after = prop_oneof![Just(String::new()), "[ ,;|)\\]}<>\"'&][a-zé ]{0,8}", "\\\\n[a-z]{1,5}", "\n[a-z ]{0,9}"];
    (before, after)
}

/// A secret behind a name, and the text of both.
fn any_pair() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        "(db_|old_|my-)?(password|Password|PASSWORD|passwd|secret|api_key|apiKey|API-KEY|access_token|private_key)",
        "(old_)?(client_secret|passphrase)",
        Just("aws_secret_access_key".to_owned()),
        Just("sessionId".to_owned()),
    ];
    // Not to be taken for anything else: with digits.
    let secret = "[a-zA-Z]{1,6}[0-9][a-zA-Z0-9!#$%*+/@^_~-]{4,16}[a-zA-Z0-9]";
    let form = prop_oneof![
        Just("NAME=SECRET"),
        Just("NAME = SECRET"),
        Just("NAME: SECRET"),
        Just("NAME='SECRET'"),
        Just("NAME = \"SECRET\""),
        Just("\"NAME\": \"SECRET\""),
        Just("\"NAME\":\"SECRET\""),
        Just("{\\\"NAME\\\": \\\"SECRET\\\"}"),
        Just("{'NAME': 'SECRET'}"),
        Just("{'NAME': b'SECRET', 'n': 1}"),
        Just("{\"NAME\": [1, {\"x\": \"SECRET\"}]}"),
        Just("User(NAME='SECRET')"),
        Just("User(NAME=Secret('SECRET'))"),
        Just("--NAME SECRET"),
        Just("--NAME=SECRET"),
        Just("?x=1&NAME=SECRET&y=2"),
        Just("Authorization: Bearer SECRET"),
        Just("X-NAME: SECRET"),
        Just("<NAME>SECRET</NAME>"),
    ];
    (name, secret, form).prop_map(|(name, secret, form)| {
        let text = form.replace("NAME", &name).replace("SECRET", &secret);
        (secret, text)
    })
}

/// Deep in a value, in the text of a member or of an item, or as a name.
fn nested(inner: Value, path: &[(u8, String)]) -> Value {
    path.iter().fold(inner, |value, (kind, text)| match kind {
        0 => Value::Array(vec![Value::from(1u64), value]),
        1 => Value::object([("a", Value::Null), (text, value)]),
        // JSON in a text.
        2 => Value::from(value.to_text()),
        _ => Value::object([(text.as_str(), Value::Array(vec![value]))]),
    })
}

fn any_path() -> impl Strategy<Value = Vec<(u8, String)>> {
    proptest::collection::vec((0u8..4, "[b-z]{1,4}|tokens|headers"), 0..6)
}

/// Texts of what matters to the passes, in any order.
fn any_soup() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => proptest::sample::select(vec![
            "password", "token", "auth", "api_key", "Authorization", "cookie", "passphrase", "secret", "--", "credentials", "self.",
            "=", ": ", ":", " = ", "==", "=>", "%3D", "\"", "'", "\"\"\"", "`", "\\", "\\\"", "\\n", "\\u00e9", "%20", "\n", " ", ",",
            ", ", ";", "&", "?", "{", "}", "[", "]", "(", ")", "<", ">", "</", "/", "//", "://", "@", ".", "-", "_", "|", "[masked]", "str",
            "None", "Bearer ", "Basic ", "a", "x1", "b'", "é", "。", "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111",
            "hunter2", "A(",
            "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "AKIAIOSFODNN7EXAMPLE", "sk-", "bob@example.com",
            "eyJhbGciOiJIUzI1NiJ9.eyJz",
        ]).prop_map(str::to_owned),
        1 => any_secret(),
        1 => any_pair().prop_map(|(_, text)| text),
        1 => any::<String>(),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn any_soup_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any_soup().prop_map(Value::from),
        any_soup().prop_map(Value::from),
        any_value(),
        any_card().prop_map(|card| Value::parse(&card).unwrap_or_else(|_| Value::from(card))),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![any_soup(), Just("password".to_owned()), Just("token".to_owned()), "[a-z]{1,3}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(name, inner, 0..4).prop_map(Value::object),
        ]
    })
}

/// What has no secret in it: numbers, digests, ids, names, sentences about all of that.
fn any_plain_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<i32>().prop_map(|number| number.to_string()),
        (1_500_000_000_000u64..2_000_000_000_000).prop_map(|time| time.to_string()),
        "[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}",
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "00-[0-9a-f]{32}-[0-9a-f]{16}-01",
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z",
        "[a-z]{1,9}",
        "[a-m]{1,6}=[0-9.]{1,9}",
        "[A-Z][a-z]{1,9}Error: [a-z ]{1,20}",
        "/[a-z]{1,6}/[a-z]{1,6}\\.py:[0-9]{1,4}",
        "https?://[a-z]{1,9}\\.(com|org)(:[0-9]{2,4})?/[a-z/]{0,9}",
        proptest::sample::select(LEGIBLE).prop_map(str::to_owned),
    ];
    proptest::collection::vec(word, 0..8).prop_map(|words| words.join("\n"))
}

proptest! {
    #[test]
    fn a_planted_secret_never_survives(
        secret in any_secret(), (before, after) in any_surroundings(), path in any_path(), as_name in any::<bool>(),
    ) {
        let text = format!("{before}{secret}{after}");
        // Of a URL, it is the password.
        let secret = match secret.split_once("://") {
            Some((_, url)) => url.split([':', '@']).nth(1).unwrap_or(url),
            None => &secret,
        };
        let inner = if as_name { Value::object([(text, Value::from(1u64))]) } else { Value::from(text) };
        let mut value = nested(inner, &path);
        mask(&mut value);
        prop_assert!(!flat(&value).contains(&flat_text(secret)), "{}", value.to_text());
    }

    #[test]
    fn a_named_secret_never_survives((secret, text) in any_pair(), (before, after) in any_surroundings(), path in any_path()) {
        let mut value = nested(Value::from(format!("{before}{text}{after}")), &path);
        mask(&mut value);
        prop_assert!(!value.to_text().contains(&secret), "{}", value.to_text());
    }

    #[test]
    fn a_member_of_that_name_never_survives(
        name in "(db_|old_)?(password|apiKey|token|auth|cookie|session_id)", secret in "[a-z]{1,9}", path in any_path(),
    ) {
        let mut value = nested(Value::object([(name, nested(Value::from(format!("<{secret}>")), &path))]), &path);
        mask(&mut value);
        prop_assert!(!value.to_text().contains(&format!("<{secret}>")), "{}", value.to_text());
    }

    #[test]
    fn what_has_no_secrets_is_not_even_copied(text in any_plain_text()) {
        prop_assert!(matches!(mask_text(&text), Cow::Borrowed(_)), "{}\n{}", text, mask_text(&text));
    }

    #[test]
    fn masking_again_changes_nothing(text in any_soup(), mut value in any_soup_value()) {
        let once = mask_text(&text);
        prop_assert_eq!(&mask_text(&once), &once, "{:?}", text);
        mask(&mut value);
        let once = value.clone();
        mask(&mut value);
        prop_assert_eq!(value, once);
    }

    #[test]
    fn json_stays_json(mut value in any_soup_value()) {
        let text = Value::Array(vec![value.clone()]).to_text();
        let masked = mask_text(&text);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{}\n{}", text, masked);
        mask(&mut value);
        let text = value.to_text();
        prop_assert_eq!(Value::parse(&text).expect("names differ"), value);
    }
}

/// The text of a value without what JSON escapes, however often.
fn flat(value: &Value) -> String {
    flat_text(&value.to_text())
}

fn flat_text(text: &str) -> String {
    text.replace("\\", "").replace("\n", "n")
}
