// The unmodified official JavaScript client does everything that chat offers, a file a section, against one server.
//
// Run by tests/tests/official_client.rs; by hand: STENTOR_BIN=target/release/stentor node official.mjs

import './official/accounts.mjs';
import './official/rooms.mjs';
import './official/history.mjs';
import './official/direct.mjs';
import './official/groups.mjs';
import './official/members.mjs';
import './official/group_chat.mjs';
import './official/friends.mjs';
import './official/notifications.mjs';
import './official/status.mjs';
import './official/storage.mjs';
import './official/deletion.mjs';
import './official/frames.mjs';
import './official/restart.mjs';
