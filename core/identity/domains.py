"""Mail domains whose addresses anybody can have, so that nobody can claim them."""

from __future__ import annotations

_NAMES = """
126.com 163.com aol.com att.net bigpond.com bluewin.ch bt.com btinternet.com comcast.net cox.net daum.net disroot.org
duck.com earthlink.net fastmail.com fastmail.fm free.fr freenet.de gmail.com gmx.at gmx.ch gmx.com gmx.de gmx.net
googlemail.com hanmail.net hey.com hotmail.co.uk hotmail.com hotmail.de hotmail.fr hotmail.it hushmail.com icloud.com
inbox.com laposte.net libero.it live.co.uk live.com live.de live.fr live.nl mac.com mail.com mail.ru mailbox.org
mailfence.com mailinator.com me.com msn.com naver.com o2.pl ocn.ne.jp orange.fr outlook.com outlook.de outlook.fr pm.me
posteo.de posteo.net proton.me protonmail.ch protonmail.com qq.com rediffmail.com riseup.net rocketmail.com runbox.com
sbcglobal.net seznam.cz sfr.fr shaw.ca sina.com skynet.be sky.com t-online.de telenet.be tuta.com tuta.io tutamail.com
tutanota.com tutanota.de uol.com.br verizon.net virgilio.it virginmedia.com wanadoo.fr web.de wp.pl xtra.co.nz yahoo.ca
yahoo.co.in yahoo.co.jp yahoo.co.uk yahoo.com yahoo.com.br yahoo.de yahoo.es yahoo.fr yahoo.it yandex.com yandex.ru
yeah.net ymail.com zoho.com
"""

PUBLIC_DOMAINS = frozenset(_NAMES.split())
