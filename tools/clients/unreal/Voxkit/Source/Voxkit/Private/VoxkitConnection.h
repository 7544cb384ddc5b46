#pragma once

#include "CoreMinimal.h"
#include "IWebSocket.h"

#include "voxkit/session.h"

/** voxkit::Session over the engine's WebSockets, on the game thread. */
class FVoxkitConnection : public TSharedFromThis<FVoxkitConnection>
{
public:
	/** std::invalid_argument: options that no server takes. */
	explicit FVoxkitConnection(voxkit::Options Options);
	~FVoxkitConnection();

	voxkit::Session Session;

	void Configure(const TArray<FString>& Phrases);

	/** Connect when it is time, send what there is, and take what was said. */
	std::deque<voxkit::Event> Tick();

private:
	void Open();
	void Close();
	void Heard(const FString& Message);
	void Ended(int32 Code, const FString& Reason);

	TSharedPtr<IWebSocket> Socket;
	TSharedPtr<IWebSocket> Closed; // kept until the next tick: it may be the one that is calling
	double Opened = 0;
	bool bAnswered = false;
};
