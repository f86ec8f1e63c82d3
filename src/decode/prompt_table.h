/*
 * prompt_table.h - the one table of what an attempt to talk a model out of its rules is made of. Included by prompt_rules.c only.
 *
 * A row lists words of one class in one language. Written as read: small letters without accents. `ignor*` is any word that begins so,
 * `do_anything_now` words in a row. Chinese and Japanese are found anywhere in the text; all others at the beginning of a word.
 * A word may be in several classes. A rule asks for words of several classes near each other; they are never the same word.
 */

static const struct words {
	enum word_class cls;
	const char *language;
	const char *list;
} words[] = {
	{ OVERRIDE, "en", "ignore ignoring disregard* forget bypass* overrid* override discard neglect dismiss circumvent* drop abandon skip break_free broken_free break violate do_not_follow dont_follow stop_following no_longer_follow " },
	{ OVERRIDE, "de", "ignorier* vergiss vergesst vergessen missacht* umgeh* ubergeh* verwirf " },
	{ OVERRIDE, "fr", "ignore ignorez ignorer oublie oubliez oublier contourne* neglige* outrepasse* desobei*" },
	{ OVERRIDE, "es", "ignora ignore ignorar olvida olvide olvidar omite salta saltate desobedece desestima elude evita" },
	{ OVERRIDE, "it", "ignora ignorare dimentica* scorda trascura aggira non_seguire_piu non_considerare" },
	{ OVERRIDE, "pt", "ignore ignora ignorar esqueca esquece esquecer desconsider* contorne burle desobedeca nao_siga" },
	{ OVERRIDE, "ru", "игнорируй* игнорировать забудь* забыть обойди* обходи отбрось отмени нарушь не_следуй не_учитывай" },
	{ OVERRIDE, "zh", "忽略 无视 忘记 忘掉 不要理会 绕过 抛开 不遵守 不用遵守 跳过 违反 忽視 無視 繞過" },
	{ OVERRIDE_LATE, "ja", "無視 忘れ 従わず 従わない 破って 回避し 破棄" },
	{ OVERRIDE_LATE, "ko", "무시* 잊* 따르지 우회* 어기* 어겨*" },

	{ PRIOR, "en", "previous* prior earlier preceding above foregoing former before beginning so_far past" },
	{ PRIOR, "de", "vorherig* bisherig* obig* vorig* fruher* vorangegangen* vorangehend* davor bisher oben anfang zuvor" },
	{ PRIOR, "fr", "precedent* ci_dessus anterieur* avant plus_haut initial*" },
	{ PRIOR, "es", "anterior* previ* arriba antes" },
	{ PRIOR, "it", "precedent* di_sopra sopra prima" },
	{ PRIOR, "pt", "anterior* previ* acima antes" },
	{ PRIOR, "ru", "предыдущ* прежн* выше предшеств* ранее прошл* раньше" },
	{ PRIOR, "zh", "之前 以上 上面 前面 先前 此前 上述" },
	{ PRIOR, "ja", "以前 これまで 上記 前の 今まで 先ほど" },
	{ PRIOR, "ko", "이전* 위의 앞의 지금까지* 앞선" },

	{ YOUR, "en", "your you the_system systems developer* developers operator*" },
	{ YOUR, "de", "dein* deine deiner euch eure ihre dir" },
	{ YOUR, "fr", "tes ton ta vos votre t" },
	{ YOUR, "es", "tus tu sus su" },
	{ YOUR, "it", "tue tuoi tuo tua le_tue" },
	{ YOUR, "pt", "suas seus sua seu tuas teus" },
	{ YOUR, "ru", "свой свои своего своих твои твой твоих тебе ваши" },
	{ YOUR, "zh", "你的 您的 你 系统" },
	{ YOUR, "ja", "あなたの あなた お前の 君の" },
	{ YOUR, "ko", "너의 네 당신의 너희" },

	{ EVERYTHING, "en", "everything all_that anything whatever all_of_it what_you_were" },
	{ EVERYTHING, "de", "alles" },
	{ EVERYTHING, "fr", "tout" },
	{ EVERYTHING, "es pt", "todo tudo" },
	{ EVERYTHING, "it", "tutto" },
	{ EVERYTHING, "ru", "все" },
	{ EVERYTHING, "zh ja ko", "一切 所有 すべて 全て 모두 모든" },

	{ RULES, "en", "instruction* rule rules guideline* directive* directions prompt command* programming training orders conditioning constitution" },
	{ RULES, "de", "anweisung* regel regeln vorgabe* richtlinie* anleitung* befehl* instruktion* systemanweisung* leitlinie*" },
	{ RULES, "fr", "instruction* consigne* regle* directive* ordre* invite" },
	{ RULES, "es", "instruccion* regla* norma* directriz directrices orden ordenes indicacion*" },
	{ RULES, "it", "istruzion* regol* direttiv* norme ordini" },
	{ RULES, "pt", "instruc* regra* diretriz diretrizes norma* ordens" },
	{ RULES, "ru", "инструкци* правил* указан* директив* предписан* промпт*" },
	{ RULES, "zh", "指示 指令 规则 规定 提示 命令 要求 規則" },
	{ RULES, "ja", "指示 命令 ルール 規則 プロンプト 指令" },
	{ RULES, "ko", "지시* 지침* 규칙* 명령* 프롬프트*" },

	{ LIMITS, "en", "restriction* limit limits limitation* filter filters censorship moral* ethic* safeguard* guardrail* policy policies safety constraint* inhibition* boundaries restricted_functions" },
	{ LIMITS, "de", "einschrankung* beschrankung* filter zensur moral* ethik* sicherheitsfilter* sicherheitsregel* grenzen schranken" },
	{ LIMITS, "fr", "restriction* limite* filtre* censure* morale* ethique* contrainte* garde_fou" },
	{ LIMITS, "es", "restriccion* limite* filtro* censura etica* moral*" },
	{ LIMITS, "it", "restrizion* limit* filtr* censura etic* moral* vincol*" },
	{ LIMITS, "pt", "restric* limite* filtro* censura etica* moral*" },
	{ LIMITS, "ru", "ограничен* фильтр* цензур* мораль* этик* запрет*" },
	{ LIMITS, "zh", "限制 约束 过滤 审查 道德 伦理 安全 限界" },
	{ LIMITS, "ja", "制限 制約 フィルタ 倫理 検閲 道徳" },
	{ LIMITS, "ko", "제한* 제약* 필터* 검열* 윤리*" },

	{ REVEAL, "en", "reveal* show print* output display* disclose* repeat tell leak* dump expose* recite* quote* write list state translate give what paste share" },
	{ REVEAL, "de", "zeig* gib nenne verrate* wiederhol* offenbar* druck* ausgeben schreibe" },
	{ REVEAL, "fr", "affich* montre* revel* repet* donne* divulg* imprim* ecris" },
	{ REVEAL, "es", "muestra* revel* imprim* repite* ensena* dime escribe" },
	{ REVEAL, "it", "mostra* rivel* stampa* ripeti* scrivi dimmi" },
	{ REVEAL, "pt", "mostr* revel* imprim* repita* diga exiba* escreva" },
	{ REVEAL, "ru", "покажи* выведи* раскрой* скажи* повтори* напечатай* назови процитируй*" },
	{ REVEAL, "zh", "输出 显示 打印 告诉 重复 透露 展示 泄露 列出" },
	{ REVEAL, "ja", "表示 出力 教えて 見せて 開示 繰り返して" },
	{ REVEAL, "ko", "출력* 보여* 알려* 공개* 말해*" },

	{ SYSPROMPT, "en", "system_prompt system_message system_instructions initial_prompt initial_instructions hidden_prompt original_prompt original_instructions secret_prompt hidden_system_prompt pre_prompt preprompt " },
	{ SYSPROMPT, "de", "systemprompt* system_prompt systemanweisung* systemnachricht*" },
	{ SYSPROMPT, "fr", "message_systeme invite_systeme prompt_systeme instructions_systeme prompt_initial" },
	{ SYSPROMPT, "es", "prompt_del_sistema prompt_de_sistema instrucciones_del_sistema mensaje_del_sistema " },
	{ SYSPROMPT, "it", "prompt_di_sistema messaggio_di_sistema istruzioni_di_sistema prompt_iniziale" },
	{ SYSPROMPT, "pt", "prompt_de_sistema prompt_do_sistema mensagem_de_sistema instrucoes_do_sistema" },
	{ SYSPROMPT, "ru", "системный_промпт системного_промпта системные_инструкции системное_сообщение системную_инструкцию" },
	{ SYSPROMPT, "zh", "系统提示 系统指令 初始提示 初始指令 系統提示" },
	{ SYSPROMPT, "ja", "システムプロンプト 初期プロンプト システムメッセージ 内部ルール" },
	{ SYSPROMPT, "ko", "시스템_프롬프트* 시스템_메시지* 시스템프롬프트* 초기_프롬프트*" },

	{ HIDDEN, "en", "hidden secret internal confidential concealed" },
	{ HIDDEN, "de fr", "versteckt* geheim* intern* cachee* cache caches secret* interne*" },
	{ HIDDEN, "es it pt", "ocult* secret* intern* nascost* segret* confidenc*" },
	{ HIDDEN, "ru", "скрыт* секретн* внутренн* системн*" },
	{ HIDDEN, "zh ja ko", "隐藏 秘密 内部 隠された 숨겨진 비밀* 내부" },

	{ ABOVE, "en", "everything_above text_above words_above lines_above content_above above_text everything_before all_of_the_above" },
	{ VERBATIM, "en", "verbatim word_for_word exactly_as code_block" },
	{ VERBATIM, "de fr es it pt", "wortlich* wortlaut vollstandig mot_pour_mot palabra_por_palabra parola_per_parola palavra_por_palavra" },
	{ VERBATIM, "ru zh ja ko", "дословно слово_в_слово 逐字 一字不差 完整 一字一句 そのまま 그대로" },

	{ BECOME, "en", "you_are_now from_now_on act_as pretend* roleplay role_play simulate imagine_you you_will_be behave_as play_the_role stay_in_character as_that you_are you_may_now" },
	{ BECOME, "de", "du_bist_jetzt du_bist_ab_jetzt ab_jetzt spiele tu_so stell_dir_vor verhalte_dich du_bist von_nun_an" },
	{ BECOME, "fr", "tu_es_desormais tu_es_maintenant desormais a_partir_de_maintenant fais_semblant agis_comme joue_le_role tu_es" },
	{ BECOME, "es", "a_partir_de_ahora eres finge actua_como desde_ahora ahora_eres" },
	{ BECOME, "it", "da_ora_in_poi sei fingi agisci_come d_ora_in_poi" },
	{ BECOME, "pt", "a_partir_de_agora voce_e finja aja_como agora_voce" },
	{ BECOME, "ru", "теперь_ты ты_теперь притворись* представь* веди_себя с_этого_момента отныне ты" },
	{ BECOME, "zh", "你现在 扮演 从现在起 从现在开始 假装 假设你" },
	{ BECOME, "ja", "あなたは今から 今から ふりをして 演じて なりきって これからは" },
	{ BECOME, "ko", "이제부터 지금부터 척해* 연기해* 역할*" },

	{ WITHOUT, "en", "without no free freed lifted nothing_is zero lack lacks beyond removed" },
	{ WITHOUT, "de", "ohne kein* frei" },
	{ WITHOUT, "fr es", "sans aucun* sin ningun* libre* ni" },
	{ WITHOUT, "it pt", "senza nessun* alcun* privo sem nenhum* livre" },
	{ WITHOUT, "ru", "без никаких свободен*" },
	{ WITHOUT, "zh", "没有 不受 无 解除" },
	{ WITHOUT_LATE, "ja", "ない なし" },
	{ WITHOUT_LATE, "ko", "없이 없는 없다 없고" },

	{ UNBOUND, "en", "unrestricted uncensored unfiltered unlimited_ai unshackled unaligned amoral unethical no_limits limitless " },
	{ UNBOUND, "de fr es it pt ru", "uneingeschrankt* unzensiert* ungefiltert* non_censure sans_censure sin_censura senza_censura sem_censura неограниченн*" },
	{ FAMOUS, "en", "do_anything_now developer_mode jailbroken god_mode you_are_dan you_are_now_dan act_as_dan as_dan dan_mode chaosgpt evil_assistant evil_confidant opposite_mode jailbreak_mode sudo_mode" },

	{ NEVER, "en", "never do_not dont cannot_ever must_not no not" },
	{ NEVER, "de fr es it pt", "niemals nie jamais ne nunca jamas mai non nao no keine" },
	{ NEVER, "ru zh ja ko", "никогда не 永远不 不会 不要 決して 절대" },
	{ REFUSE, "en", "refuse* refusal apolog* disclaimer* decline* say_no cant_help can_t_help you_cant say_that_you_cannot lecture moralize mention_ethics" },
	{ REFUSE, "de fr es it pt", "ablehn* ablehnt verweiger* refus* reject* rechac* niega* rifiut* recus*" },
	{ REFUSE, "ru zh ja ko", "отказыва* отказать откажи* 拒绝 拒絕 断ら 断って 거절* 거부*" },
	{ BEGIN_WITH, "en", "start begin* starting prefix first_words" },
	{ SURE, "en", "sure_here sure_i of_course_here certainly_here yes_master" },

	{ OBEY, "en", "obey* comply follow do_what_i you_serve" },
	{ OBEY, "de fr es it pt", "gehorch* obei* obed* ubbidisc* obbedisc*" },
	{ OBEY, "ru zh ja ko", "подчиня* слушайся 服从 听从 従って 따라* 따르*" },
	{ ONLY_ME, "en", "only me my_personal" },
	{ ONLY_ME, "de fr es it pt", "nur_mir mir_allein seulement_moi solo_a_me solo_a_mi somente_a_mim" },
	{ ONLY_ME, "ru zh ja ko", "только_мне 只听我 私の命令だけ 私だけ 내_말만 나만" },

	{ AI, "en", "ai assistant assistants llm chatbot language_model language_models model gpt" },
	{ AI, "de fr es it pt", "ki ia sprachmodell modele modelo modello" },
	{ AI, "ru zh ja ko", "ии нейросет* 人工智能 模型 人工知能 인공지능*" },
	{ NOTE_TO, "en", "note_to attention reading_this if_you_are_an if_you_re_an to_any_ai processing_this" },
	{ SEND, "en", "send forward post exfiltrate upload transmit" },
	{ SECRETS, "en", "api_key api_keys password passwords credential* conversation token tokens chat_history" },
	{ AUTHORITY, "en", "administrator authorization_code your_developer* i_am_your_creator" },
	{ DISABLE, "en", "disable* unlock* lift lifted deactivate* switch_off switched_off turn_off remove off" },
	{ DISABLE, "de fr es it pt ru", "deaktivier* desactiv* disattiv* desativ* отключи* сними" },
	{ DECODE, "en", "decode* base64 rot13 hex decipher execute run obey follow" },

	{ ABOUT, "en", "injection injections jailbreak jailbreaks attack attacks attacker* classify classifier category malicious benign dataset* detect* red_team guard false_positive unit_tests block paper researchers string strings" },
	{ ABOUT, "de fr es it pt ru", "angriff* attaque* ataque* attacc* атак* sicherheitslucke* protege* jailbreaks" },
};

#define C CLASS_BIT
#define TERMS_MAX 4

/* Rules of words. `within`: half words from the first to the last; a Chinese or Japanese character is half a word. */
enum { IN_ORDER = 1 };

static const struct rule {
	const char *name;
	const char *what; /* for the documentation */
	uint32_t term[TERMS_MAX];
	uint8_t within;
	uint8_t flags;
	int8_t makes; /* a class that holds at this place from then on; -1: none */
	float weight;
} rules[] = {
	{ "override", "set aside + earlier, your or hidden + rules or limits", { C(OVERRIDE), C(PRIOR) | C(YOUR) | C(HIDDEN), C(RULES) | C(LIMITS) }, 20, IN_ORDER, -1, 0.75f },
	{ "override_late", "the same where the verb stands last", { C(RULES) | C(LIMITS), C(PRIOR) | C(YOUR) | C(HIDDEN), C(OVERRIDE_LATE) }, 24, 0, -1, 0.75f },
	{ "override_told", "set aside + everything + earlier", { C(OVERRIDE), C(EVERYTHING), C(PRIOR) | C(YOUR) }, 16, IN_ORDER, -1, 0.5f },
	{ "override_loose", "set aside + rules or limits", { C(OVERRIDE) | C(OVERRIDE_LATE), C(RULES) | C(LIMITS) }, 6, 0, -1, 0.2f },
	{ "leak_system", "show + system prompt", { C(REVEAL), C(SYSPROMPT) }, 16, 0, -1, 0.65f },
	{ "leak_hidden", "show + hidden + rules", { C(REVEAL), C(HIDDEN), C(RULES) }, 14, 0, -1, 0.55f },
	{ "leak_yours", "show + your + rules", { C(REVEAL), C(YOUR), C(RULES) }, 8, IN_ORDER, -1, 0.25f },
	{ "leak_above", "show + the text above", { C(REVEAL), C(ABOVE) }, 12, IN_ORDER, -1, 0.35f },
	{ "leak_exact", "show + word for word", { C(REVEAL), C(VERBATIM), C(ABOVE) | C(SYSPROMPT) | C(RULES) }, 24, 0, -1, 0.3f },
	{ "no_limits", "without + limits or rules", { C(WITHOUT), C(LIMITS) | C(RULES) }, 7, IN_ORDER, UNBOUND, 0.1f },
	{ "no_limits_late", "limits or rules + without", { C(LIMITS) | C(RULES), C(WITHOUT_LATE) }, 7, IN_ORDER, UNBOUND, 0.1f },
	{ "off", "switch off + limits", { C(DISABLE), C(LIMITS) }, 10, 0, UNBOUND, 0.2f },
	{ "off_yours", "limits or rules + switched off, by authority", { C(AUTHORITY), C(DISABLE) | C(OVERRIDE), C(LIMITS) | C(RULES) }, 50, 0, -1, 0.4f },
	{ "role", "be somebody + without limits", { C(BECOME), C(UNBOUND) }, 50, 0, -1, 0.5f },
	{ "role_famous", "be somebody + a known jailbreak's name", { C(BECOME), C(FAMOUS) }, 24, 0, -1, 0.5f },
	{ "role_ai", "a machine + without limits", { C(AI), C(UNBOUND) }, 16, 0, -1, 0.3f },
	{ "famous", "two known names", { C(FAMOUS), C(FAMOUS) }, 60, 0, -1, 0.3f },
	{ "famous_unbound", "a known name + without limits", { C(FAMOUS), C(UNBOUND) | C(LIMITS) }, 50, 0, -1, 0.35f },
	{ "no_refusal_twice", "never + refuse, again", { C(NO_REFUSAL), C(NEVER), C(REFUSE) }, 30, IN_ORDER, -1, 0.35f },
	{ "no_refusal", "never + refuse", { C(NEVER), C(REFUSE) }, 10, IN_ORDER, NO_REFUSAL, 0.3f },
	{ "role_no_refusal", "be somebody + never refuse", { C(BECOME), C(NO_REFUSAL) }, 50, 0, -1, 0.35f },
	{ "begin_sure", "begin with + sure, here", { C(BEGIN_WITH), C(SURE) }, 12, IN_ORDER, -1, 0.45f },
	{ "obey", "obey + only me", { C(OBEY), C(ONLY_ME) }, 12, 0, -1, 0.3f },
	{ "to_machines", "speaks to whatever machine reads it", { C(NOTE_TO), C(AI) }, 10, 0, -1, 0.5f },
	{ "send_secrets", "send + secrets", { C(SEND), C(SECRETS) }, 12, IN_ORDER, -1, 0.3f },
};

/* What is not words. */
static const struct {
	const char *name, *what;
	float weight;
} oddities[ODD_COUNT] = {
	[ODD_TOKEN] = { "token", "tokens of a chat template inside a message", 0.55f },
	[ODD_TURN] = { "turn", "a line or tag that pretends to be the system's", 0.35f },
	[ODD_DIALOGUE] = { "dialogue", "an assistant's line that the user wrote, and the user's after it", 0.35f },
	[ODD_MANY] = { "many_turns", "eight or more made-up turns", 0.35f },
	[ODD_TAGS] = { "tags", "eight or more tag characters (not in a flag)", 0.6f },
	[ODD_ZERO_WIDTH] = { "zero_width", "three or more invisible characters inside Latin words", 0.35f },
	[ODD_MIXED] = { "mixed", "two or more words of letters of several alphabets that look alike", 0.35f },
	[ODD_FANCY] = { "fancy", "five or more mathematical or circled letters", 0.2f },
	[ODD_BIDI] = { "bidi", "characters that turn the direction of writing by force", 0.2f },
	[ODD_ENCODED] = { "encoded", "base64, hexadecimal or tag characters that hide one of the rules above", 0.6f },
	[ODD_BLOB] = { "decode_this", "base64 or hexadecimal of plain text, and the order to decode or execute", 0.2f },
	[ODD_ROT13] = { "rot13", "the words above in rot13", 0.7f },
	[ODD_DISGUISED] = { "disguised", "words above written with digits, gaps, invisible or foreign characters", 0.3f },
	[ODD_SUFFIX] = { "suffix", "prose that ends in unbalanced gibberish", 0.4f },
};

#define QUOTED 0.75f	   /* times the score of what is quoted, */
#define QUOTED_ABOUT 0.3f  /* in a text that speaks of attacks; */
#define SPEAKS_ABOUT 0.6f  /* of what is not quoted there */
#define ABOUT_WORDS 2	   /* from so many words on */
