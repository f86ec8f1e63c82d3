/*
 * corpus.h - what the model has read. One string per document.
 *
 * Several scripts on purpose: byte-level tokens then split characters, as real models' do, and the
 * quotes and backslashes make the answers need escaping.
 */
#ifndef MODELSERVER_CORPUS_H
#define MODELSERVER_CORPUS_H

static const char *const corpus[] = {
	"A weir is a low wall across a river. The water runs over it, and because the wall has a known shape the height of the water "
	"above it tells how much water the river carries. Nothing is taken from the river and nothing is added to it. The people who "
	"built the first weirs wanted fish and mills; the people who built the later ones wanted numbers.",
	"To measure a flow you need three things: a place where everything must pass, a way to look at it without stopping it, and "
	"the patience to write down what you saw even when it was zero. Most mistakes come from the third.",
	"The river rises in spring when the snow melts and falls in late summer when the fields drink it. A keeper who knows only the "
	"mean will call every spring a flood and every August a drought. A keeper who knows the seasons will sleep better and will "
	"wake up when it matters.",
	"When the gauge shows a sudden rise, first ask whether the gauge is broken. Then ask whether it rained. Then ask who opened "
	"the gate upstream. Only when nobody did, ring the bell.",
	"The miller said: \"I took no more water than yesterday.\" The keeper said: \"You opened the gate as often as yesterday, but "
	"each time you left it open for an hour.\" They were both right, and the book of the weir showed it.",
	"Here is a short recipe. Take two onions, cut them small, and fry them slowly in butter until they are golden. Add a spoon of "
	"flour, stir, then pour in a litre of stock. Let it cook for twenty minutes. Serve it with bread and cheese.",
	"A good answer is short when the question is short. It says what is known, what is not known, and what to try next. If the "
	"question is wrong, the answer says so kindly.",
	"for (i = 0; i < n; i++) { sum += a[i]; } printf(\"%d\\n\", sum); /* the path is C:\\temp\\weir */ return sum == 0 ? 1 : 0;",
	"Das Wehr staut den Fluss ein wenig auf, und über die Höhe des Wassers lässt sich die Menge ablesen. Im Frühjahr ist der "
	"Fluss groß und grün, im Herbst fließt er müde über die Steine. Der Wärter schreibt jeden Morgen die Höhe in sein Büchlein.",
	"Le barrage est bas et la rivière passe par-dessus. L'éclusier note la hauteur de l'eau à midi, même quand il pleut, même "
	"quand il n'y a rien à noter. À la fin de l'été, le registre est plein et la rivière est presque vide.",
	"Ο ποταμός περνά πάνω από τον χαμηλό τοίχο και το ύψος του νερού δείχνει την ποσότητα. Κάθε πρωί ο φύλακας γράφει έναν αριθμό.",
	"川の水は低い堰を越えて流れる。水の高さを測れば、流れる量がわかる。毎朝、番人は数字を一つ書く。雨の日も、何もない日も。",
	"Река течёт через низкую плотину, и по высоте воды видно, сколько её прошло. Каждое утро сторож пишет одно число.",
	"Weather today: 🌧 in the morning, ☀️ after lunch, 🌬 by the sea. Water level 1.37 m, flow 42 m³/s, temperature 11 °C. Fish "
	"seen: 🐟🐟🐟. Boats: none. Notes: \"quiet\".",
	"Dear customer, thank you for your message. Your order has left our house and will reach you in three to five working days. "
	"If it does not, please write to us again and we will look for it. Kind regards, the team.",
	"The three laws of the keeper: never stop the river, never lose a number without saying so, and never call a flood by the "
	"wrong name. The first is easy. The second is work. The third takes a life.",
};

#endif
